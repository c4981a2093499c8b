"""What validation and test log does not depend on batches or processes, and is what others compute.

The references are scikit-learn's and NumPy's, from logits and heatmaps that were made one image at a time.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, average_precision_score, top_k_accuracy_score

from agcam import explain
from agcam.data.batch import Batch, collate
from agcam.data.shapes import CLASSES
from agcam.data.source import TransformedDataset
from agcam.data.transforms import Transform
from figure_runs import BATCHES, IMAGES, METHODS, all_figures, data_of, model_of, name_of
from processes import start_together

Figures = dict[str, dict[str, Any]]
CASES = [(m, size, "validate") for m in (False, True) for size in BATCHES] + [(m, 3, "test") for m in (False, True)]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figures]:
    """The figures of all cases, by "1", "2", "3" processes; of the first and the last of them."""
    folder = tmp_path_factory.mktemp("figures")
    runs = {}
    for count in (2, 3):
        place = folder / str(count)
        runs[count] = start_together([str(place), str(count)], place, count, module="figure_runs")
    by_processes = {"1": all_figures(1, folder)}
    for count, processes in runs.items():
        codes = [process.wait(200) for process in processes]
        assert codes == [0] * count, processes[0].printed
        for rank in (0, count - 1):
            name = f"{count}, process {rank}"
            by_processes[name] = json.loads((folder / str(count) / f"rank_{rank}.json").read_text())
    return by_processes


@cache
def one_by_one(multilabel: bool, split: str) -> tuple[list[Batch], np.ndarray, np.ndarray]:
    """Images in batches of one, their logits (N, C) and labels, (N,) or (N, C)."""
    data = data_of(multilabel)
    model = model_of(multilabel)
    data.fit_input(model.input_config)
    dataset = TransformedDataset(data.open(split), Transform(data.input_config))
    batches = [collate([dataset[index]]) for index in range(IMAGES)]
    with torch.no_grad():
        logits = torch.cat([model(batch.image) for batch in batches])
    return batches, logits.double().numpy(), torch.cat([batch.label for batch in batches]).numpy()


def of_logits(multilabel: bool, stage: str) -> dict[str, float]:
    """Loss and scores."""
    _, logits, labels = one_by_one(multilabel, stage)
    if multilabel:
        present = labels.any(0)
        losses = np.logaddexp(0, logits) - labels * logits
        precision = average_precision_score(labels[:, present], logits.astype(np.float32)[:, present], average="macro")
        return {"loss": losses.mean(), "mAP": precision}
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(IMAGES), labels]
    # of equal scores scikit-learn takes the class of higher index first, argmax and we the one of lower index
    mirrored, classes = logits[:, ::-1], range(len(CLASSES))
    return {
        "loss": losses.mean(),
        "accuracy": accuracy_score(labels, logits.argmax(1)),
        "top5": top_k_accuracy_score(len(CLASSES) - 1 - labels, mirrored, k=5, labels=classes),
    }


def of_maps(multilabel: bool, stage: str, method: str) -> dict[str, float]:
    """Means over (image, present class) pairs of what one heatmap says at a time."""
    batches, logits, _ = one_by_one(multilabel, stage)
    model, rows = model_of(multilabel), []
    for batch, own in zip(batches, logits, strict=True):
        for label in batch.present()[0].tolist():
            heat = explain(model, batch.image, label, method).heatmaps[0, 0]
            right = own[label] > 0 if multilabel else own.argmax() == label
            rows.append(of_map(heat, batch.mask[0].numpy() == label + 1, bool(right)))
    known = [row for row in rows if "iou" in row]
    names = {name for row in rows for name in row}
    return {name: np.mean([row[name] for row in rows if name in row]) for name in names} | {"count": len(known)}


def of_map(heat: torch.Tensor, mask: np.ndarray, right: bool) -> dict[str, float]:
    """The figures of one heatmap; one that is 0 everywhere has no entropy, and points nowhere."""
    energy = heat.double().clamp_min(0).flatten().numpy()
    shares = energy[energy > 0] / energy.sum()
    entropy = {"entropy": -(shares * np.log(shares)).sum() / np.log(len(energy))} if len(shares) else {}
    if not mask.any():  # what another shape hides is not seen
        return entropy
    large = F.interpolate(heat[None, None], size=mask.shape, mode="bilinear", align_corners=False)[0, 0]
    large = large.clamp(heat.min(), heat.max()).numpy()
    hot = large - large.min() > 0.5 * (large.max() - large.min())
    both, peak = (hot & mask).sum(), (large >= large.max() - 1e-6).argmax()  # equal to rounding, the first
    hit = bool(mask.flat[peak]) and large.max() > large.min()
    return entropy | {
        "pixel_accuracy": (hot == mask).mean(),
        "iou": both / (hot | mask).sum(),
        "dice": 2 * both / (hot.sum() + mask.sum()),
        "precision": both / hot.sum() if hot.any() else 0.0,
        "recall": both / mask.sum(),
        "pointing_game": hit,
        "right_for_wrong_reason": right and not hit,
        "wrong_but_looking_right": not right and hit,
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: name_of(*case))
def test_all_that_is_logged_is_what_one_image_at_a_time_gives(
    case: tuple[bool, int, str], found: dict[str, Figures]
) -> None:
    multilabel, _, stage = case
    split = "val" if stage == "validate" else "test"
    expected = {f"{split}/{name}": value for name, value in of_logits(multilabel, split).items()}
    for number, method in enumerate(METHODS):
        prefix = f"{split}/loc_{method}" if number else f"{split}/loc"
        expected |= {f"{prefix}/{name}": value for name, value in of_maps(multilabel, split, method).items()}
    for processes, figures in found.items():
        logged = {name: value for name, value in figures[name_of(*case)].items() if name != "said"}
        assert logged.keys() == expected.keys()
        for name, value in expected.items():
            assert logged[name] == pytest.approx(value, abs=2e-6), f"{name}, {processes}"


def test_the_cases_are_hard(found: dict[str, Figures]) -> None:
    _, logits, labels = one_by_one(True, "val")
    inside = ((logits >= 0) & (logits <= 1)).all(1)
    assert 0 < inside.sum() < IMAGES  # some batches of one lie in [0, 1], some do not
    assert 0 < (~labels.any(0)).sum() < len(CLASSES) - 2
    _, logits, labels = one_by_one(False, "val")
    fifth = np.sort(logits, 1)[:, -5]
    assert ((logits == fifth[:, None]).sum(1) > 1).any()  # top-5 is cut between equal logits


def test_absent_classes_are_named_once_and_by_one_process(found: dict[str, Figures]) -> None:
    _, _, labels = one_by_one(True, "val")
    names = ", ".join(np.array(CLASSES)[~labels.any(0)])
    sentence = (
        f"val/mAP leaves out {(~labels.any(0)).sum()} of {len(CLASSES)} classes, which no val image shows: {names}"
    )
    for processes, figures in found.items():
        first = processes == "1" or processes.endswith("process 0")
        for size in BATCHES:
            assert figures[name_of(True, size, "validate")]["said"] == [sentence] * first, processes
            assert not figures[name_of(False, size, "validate")]["said"]
