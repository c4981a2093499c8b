"""Insertion, deletion, positive and negative perturbation on a model whose answers can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from agcam import InputError
from agcam.metrics import InsertionDeletion, PositiveNegative
from agcam.metrics.faithfulness.abpc import abpc_curves
from agcam.metrics.faithfulness.insertion_deletion import blur, insertion_deletion_curves
from agcam.metrics.faithfulness.perturbation import area, rank_pixels
from agcam.metrics.faithfulness.positive_negative import positive_negative_hits
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.registry import parse_metrics
from agcam.metrics.spec import MetricSpec
from metric_cases import random_heatmaps, tiny_vit

SIDE = 20


class Difference(nn.Module):
    """Two logits: how much of the image is above and below zero, in the mean."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([images.clamp(min=0).mean((1, 2, 3)), (-images).clamp(min=0).mean((1, 2, 3))], 1)


def half_image() -> tuple[Tensor, Tensor]:
    """Ones in the upper 50 %, minus ones in the lowest 15 %; relevance falls from row to row."""
    images = torch.zeros(1, 3, SIDE, SIDE)
    images[:, :, : SIDE // 2] = 1
    images[:, :, -3:] = -1
    heatmap = torch.arange(SIDE, 0, -1.0).view(1, SIDE, 1).expand(1, SIDE, SIDE).contiguous()
    return images, heatmap


def test_ranks_are_permutations_most_and_least_first() -> None:
    most, least = rank_pixels(torch.tensor([[[3.0, 1.0], [2.0, 4.0]]]), (2, 2))
    assert most.tolist() == [[[1, 3], [2, 0]]]
    assert least.tolist() == [[[2, 0], [1, 3]]]


def test_equal_pixels_go_later_ones_first_both_ways() -> None:
    most, least = rank_pixels(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), (2, 2))
    assert most.tolist() == [[[1, 3], [2, 0]]]
    assert least.tolist() == [[[3, 1], [0, 2]]]


def test_deletion_by_hand() -> None:
    images, heatmap = half_image()
    _, deletion = insertion_deletion_curves(Difference(), images, heatmap, torch.tensor([0]), steps=10)
    above = (0.5 - torch.arange(11) / 10).clamp(min=0)
    below = (1 - torch.arange(11) / 10).clamp(max=0.15)
    torch.testing.assert_close(deletion[:, 0], (above - below).sigmoid())


def test_insertion_runs_from_the_blurred_to_the_whole_image() -> None:
    images, heatmap = half_image()
    model, blurred = Difference(), blur(images)
    insertion, _ = insertion_deletion_curves(model, images, heatmap, torch.tensor([0]), steps=10)
    half = torch.where(heatmap[:, None] > SIDE / 2, images, blurred)
    expected = torch.stack([model(image).softmax(1)[0, 0] for image in (blurred, half, images)])
    torch.testing.assert_close(insertion[[0, 5, 10], 0], expected)


def test_blur_keeps_a_constant_and_spreads_a_point() -> None:
    torch.testing.assert_close(blur(torch.full((1, 3, 12, 12), 0.7)), torch.full((1, 3, 12, 12), 0.7))
    point = torch.zeros(1, 1, 21, 21)
    point[0, 0, 10, 10] = 1
    spread = blur(point)[0, 0]
    assert spread.sum() == pytest.approx(1)
    assert int((spread > 0).sum()) == 121
    assert float(spread[10, 15] / spread[10, 10]) == pytest.approx(float(torch.tensor(-0.5).exp()))


def test_areas_are_mean_heights() -> None:
    assert float(area(torch.tensor([1.0, 0.5, 0.0]), (0.0, 0.5, 1.0))) == 0.5
    assert float(area(torch.full((9,), 0.3), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9))) == pytest.approx(0.3)
    images, heatmap = half_image()
    metric = InsertionDeletion(Difference(), steps=10)
    metric.update(images, heatmap, torch.tensor([0]))
    found = metric.compute()
    curve = found["deletion_curve"]
    assert float(found["deletion"]) == pytest.approx(float((curve[1:] + curve[:-1]).mean() / 2))


def test_positive_and_negative_perturbation_by_hand() -> None:
    # the ones outvote the minus ones until 40 % are gone from above, leaving 10 % to 15 %; from below they always do
    images, heatmap = half_image()
    positive, negative = positive_negative_hits(Difference(), images, heatmap, torch.tensor([0]))
    assert positive[:, 0].tolist() == [True] * 3 + [False] * 6
    assert negative[:, 0].all()
    metric = PositiveNegative(Difference())
    metric.update(images, heatmap, torch.tensor([0]))
    found = metric.compute()
    assert float(found["negative"]) == 1
    assert found["positive_curve"].tolist() == positive[:, 0].float().tolist()


def test_baseline_of_removed_pixels_can_be_given() -> None:
    images, heatmap = half_image()
    black = torch.tensor([-1.0, -1.0, -1.0])[:, None, None]
    positive, _ = positive_negative_hits(Difference(), images, heatmap, torch.tensor([0]), baseline=black)
    # blackened ones vote against: 40 % to 25 %, then 30 % to 35 %
    assert positive[:, 0].tolist() == [True] + [False] * 8


def test_no_images_small_images_and_no_steps_are_refused() -> None:
    with pytest.raises(InputError, match="nothing to perturb: found 0 images"):
        insertion_deletion_curves(
            Difference(), torch.zeros(0, 3, 8, 8), torch.zeros(0, 2, 2), torch.zeros(0, dtype=torch.long)
        )
    with pytest.raises(InputError, match="larger than 5 pixels a side to be blurred, found 4×9"):
        insertion_deletion_curves(Difference(), torch.zeros(1, 3, 4, 9), torch.rand(1, 2, 2), torch.tensor([0]))
    with pytest.raises(InputError, match="steps must be 1 or more, found 0"):
        InsertionDeletion(Difference(), steps=0)


class Counting(nn.Module):
    """The logits of a model, and how many images it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.images = tiny_vit(), 0

    def forward(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return self.model(images)


def explained(heatmaps: Tensor, images: Tensor, multilabel: bool = False) -> MetricInputs:
    targets = torch.arange(len(images)) % 3
    every = torch.ones(len(images), dtype=torch.bool)
    return MetricInputs(Counting(), images, heatmaps, targets, every, every, multilabel=multilabel)


FAITHFULNESS = parse_metrics(["abpc", "insertion_deletion", "positive_negative"])


def test_default_metrics_run_the_images_that_they_share_once() -> None:
    inputs = explained(random_heatmaps(4), torch.randn(4, 3, 32, 32))
    for spec in FAITHFULNESS:
        spec.measure(inputs)
    # zeroed from the least relevant on: 0 to 90 %; from the most: 5 to 95 %; uncovered: 0 to 95 %; all zeroed: once
    assert inputs.model.images == 4 * (10 + 19 + 20) + 1


@pytest.mark.parametrize("multilabel", [False, True])
def test_what_metrics_share_changes_no_figure(multilabel: bool) -> None:
    heatmaps, images = random_heatmaps(4), torch.randn(4, 3, 32, 32)
    together = explained(heatmaps, images, multilabel)
    model, targets = together.model, together.targets
    found = {spec.name: spec.measure(together) for spec in FAITHFULNESS}
    for name, curves in {
        "abpc": abpc_curves(model, images, heatmaps, targets, multilabel=multilabel),
        "insertion_deletion": insertion_deletion_curves(model, images, heatmaps, targets, multilabel=multilabel),
        "positive_negative": positive_negative_hits(model, images, heatmaps, targets),
    }.items():
        torch.testing.assert_close(found[name], torch.cat(curves).T.float(), rtol=1e-4, atol=1e-6)


def test_a_map_that_classes_of_an_image_share_removes_its_pixels_once() -> None:
    image, other = torch.randn(2, 3, 32, 32)
    one, two = random_heatmaps(2)
    images, heatmaps = torch.stack([image, image, image, other]), torch.stack([one, one, two, two])
    model, targets = Counting(), torch.tensor([0, 1, 2, 0])
    found = torch.cat(insertion_deletion_curves(model, images, heatmaps, targets))
    assert model.images == 3 * 2 * 20 + 1
    for pair in range(4):
        alone = insertion_deletion_curves(
            model, images[pair : pair + 1], heatmaps[pair : pair + 1], targets[pair : pair + 1]
        )
        torch.testing.assert_close(found[:, pair], torch.cat(alone)[:, 0], rtol=1e-4, atol=1e-6)


def test_a_metric_that_spoils_its_inputs_spoils_no_other() -> None:
    def spoil(inputs: MetricInputs) -> Tensor:
        inputs.images.zero_()
        inputs.heatmaps.zero_()
        return torch.zeros(len(inputs.targets), 1)

    heatmaps, images = random_heatmaps(4), torch.randn(4, 3, 32, 32)
    inputs = explained(heatmaps.clone(), images.clone())
    MetricSpec("spoil", spoil, ()).measure(inputs)
    found = FAITHFULNESS[0].measure(inputs)
    curves = abpc_curves(inputs.model, images, heatmaps, inputs.targets)
    torch.testing.assert_close(found, torch.cat(curves).T, rtol=1e-4, atol=1e-6)


def test_some_of_the_pairs_share_nothing_with_all() -> None:
    inputs = explained(random_heatmaps(3), torch.randn(3, 3, 32, 32))
    assert inputs.keep(torch.arange(3)).shared is inputs.shared
    for rows in ([0, 1], [1, 0, 2]):
        assert inputs.keep(torch.tensor(rows)).shared is not inputs.shared
