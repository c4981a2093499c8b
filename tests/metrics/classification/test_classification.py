"""Mean average precision, top-k accuracy and mean loss against scikit-learn and NumPy, in any batches."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, top_k_accuracy_score
from torch import Tensor
from torchmetrics import Metric

from agcam.metrics import ImageMean, MeanAveragePrecision, TopKAccuracy
from agcam.training.evaluation import class_scores, warn_of_absent
from metric_cases import summed

N, CLASSES = 60, 7
LOGITS = torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(0))
LABELS = torch.rand(N, CLASSES, generator=torch.Generator().manual_seed(1)).lt(0.3).float()
RANKINGS = {
    "within [0, 1] here and there": LOGITS.where(torch.arange(N)[:, None] % 3 > 0, LOGITS.sigmoid()),
    "tied": (LOGITS * 2).round(),
    "where a sigmoid is 1.0": LOGITS + 40,
    "tiny": LOGITS * 1e-30,
    "half": LOGITS.bfloat16(),
    "infinite": LOGITS.where(LOGITS < 1, math.inf),
}


def in_batches(metric: Metric, size: int, *tensors: Tensor) -> Metric:
    for batch in zip(*(tensor.split(size) for tensor in tensors), strict=True):
        metric.update(*batch)
    return metric


@pytest.mark.parametrize("size", [1, 3, 64])
@pytest.mark.parametrize("name", RANKINGS)
def test_average_precision_is_scikit_learns(name: str, size: int) -> None:
    logits = RANKINGS[name]
    # the order of logits is all that counts, and scikit-learn takes no infinity
    expected = average_precision_score(LABELS.numpy(), logits.float().clamp(-1e30, 1e30).numpy(), average="macro")
    found = in_batches(MeanAveragePrecision(), size, logits, LABELS).compute()
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_absent_classes_are_left_out_of_the_mean() -> None:
    labels = LABELS.clone()
    labels[:, [1, 4]] = 0
    metric = in_batches(MeanAveragePrecision(), 8, LOGITS, labels)
    present = [0, 2, 3, 5, 6]
    expected = average_precision_score(labels[:, present].numpy(), LOGITS[:, present].numpy(), average="macro")
    assert float(metric.compute()) == pytest.approx(expected, abs=1e-6)
    assert metric.absent == (1, 4)
    metric.reset()
    in_batches(metric, 8, LOGITS, LABELS * 0)
    assert metric.compute().isnan()
    assert metric.absent == tuple(range(CLASSES))


def test_many_images_and_classes_are_ranked_class_by_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agcam.metrics.classification.mean_average_precision._AT_ONCE", 2 * N)
    expected = average_precision_score(LABELS.numpy(), LOGITS.numpy(), average="macro")
    found = in_batches(MeanAveragePrecision(), 64, LOGITS, LABELS).compute()
    assert float(found) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("size", [1, 3, 64])
@pytest.mark.parametrize("k", [1, 3, 5, CLASSES, 9])
@pytest.mark.parametrize("name", RANKINGS)
def test_top_k_accuracy_is_scikit_learns_with_the_lower_index_first(name: str, k: int, size: int) -> None:
    logits, labels = RANKINGS[name], torch.arange(N) % CLASSES
    found = float(in_batches(TopKAccuracy(k), size, logits, labels).compute())
    scores = logits.float().numpy()
    if k == 1:
        assert found == pytest.approx(accuracy_score(labels, scores.argmax(1)))
    # of equal scores scikit-learn takes the class of higher index first
    mirrored = np.clip(scores[:, ::-1], -1e30, 1e30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a k that takes all classes is no use, it says
        expected = top_k_accuracy_score(CLASSES - 1 - labels, mirrored, k=k, labels=range(CLASSES))
    assert found == pytest.approx(expected)


def test_nan_is_not_hidden() -> None:
    logits, losses = LOGITS.clone(), torch.ones(N)
    logits[7, 2] = losses[7] = math.nan
    assert in_batches(MeanAveragePrecision(), 8, logits, LABELS).compute().isnan()
    assert in_batches(TopKAccuracy(1), 8, logits, LABELS[:, 0].long()).compute().isnan()
    assert in_batches(ImageMean(), 8, losses).compute().isnan()
    assert in_batches(ImageMean(), 8, torch.ones(8).where(torch.arange(8) > 0, math.inf)).compute() == math.inf
    for empty in (TopKAccuracy(1), MeanAveragePrecision()):
        empty.update(LOGITS[:0], LABELS[:0] if isinstance(empty, MeanAveragePrecision) else LABELS[:0, 0].long())
        assert empty.compute().isnan()


def test_two_metrics_that_agree_on_the_first_batch_stay_two() -> None:
    scores, labels = class_scores(multilabel=False), LOGITS.argmax(1).where(torch.arange(N) < 1, torch.arange(N) % 5)
    for logit, label in zip(LOGITS.split(1), labels.split(1), strict=True):
        scores.update(logit, label)
    found = {name: float(value) for name, value in scores.compute().items()}
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, LOGITS.argmax(1)))
    assert found["top5"] > found["accuracy"]


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_the_mean_of_100_000_losses_has_a_float32s_digits(size: int) -> None:
    count = 100_000 if size > 1 else 5_000
    losses = torch.rand(count, generator=torch.Generator().manual_seed(0)) ** 8 * 3
    losses[0] = 1e6  # beside which the others would be rounded away
    expected = np.float32(math.fsum(losses.tolist()) / count)
    halves = [in_batches(ImageMean(), size, part) for part in (losses[: count // 3], losses[count // 3 :])]
    assert float(in_batches(ImageMean(), size, losses).compute()) == expected
    assert float(summed(*halves).compute()) == expected


def test_a_model_in_bfloat16_does_not_make_its_metrics_so() -> None:
    losses = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    metric = ImageMean().to(torch.bfloat16)  # as Lightning's bf16-true does with the module that holds it
    in_batches(metric, 8, losses)
    metric.to(torch.bfloat16)
    assert float(metric.compute()) == pytest.approx(float(losses.double().mean()), rel=1e-7)


def test_absent_classes_are_named_until_they_change() -> None:
    names, known = [f"class {number}" for number in range(CLASSES)], {}
    for column, sentence in (
        (2, "1 of 7 classes, which no val image shows: class 2"),
        (2, ""),
        (5, "class 5"),
        (8, ""),
    ):
        scores = class_scores(multilabel=True)
        scores.update(LOGITS, LABELS * (torch.arange(CLASSES) != column))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            warn_of_absent(scores, "val", names, known)
        assert [sentence in str(warning.message) for warning in said] == [True] * bool(sentence)
