"""Chefer's segmentation protocol by hand and against torchmetrics' exact average precision."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.classification import binary_average_precision

from agcam.metrics import Segmentation
from agcam.metrics.localization.segmentation import segmentation_counts
from metric_cases import SIZE, random_heatmaps, random_masks


def test_by_hand() -> None:
    # mean 0.55: foreground found at the first two; object at the first and third
    heatmap = torch.tensor([[[1.0, 0.8], [0.4, 0.0]]])
    mask = torch.tensor([[[True, False], [True, False]]])
    metric = Segmentation()
    metric.update(heatmap, mask)
    found = metric.compute()
    assert float(found["pixel_accuracy"]) == 0.5
    assert float(found["miou"]) == pytest.approx((1 / 3 + 1 / 3) / 2)
    # foreground ranks object, other, object; all eight scores ranked: 1 and 1 hit, .8 misses,
    # .6 (third pixel as background) misses, .4 hits, .2 (second as background) hits, then the two zeros
    assert float(found["foreground_ap"]) == pytest.approx((1 + 2 / 3) / 2)
    assert float(found["map"]) == pytest.approx((2 * (2 / 2) + 3 / 5 + 4 / 6) / 4)


def test_ious_are_taken_over_the_data_set_and_map_over_images() -> None:
    heatmaps = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]])
    masks = torch.tensor([[[True, True], [True, True]], [[True, True], [False, False]]])
    metric = Segmentation()
    metric.update(heatmaps, masks)
    # foreground 1 + 2 of 4 + 2, background 0 + 2 of 3 + 2
    assert float(metric.compute()["miou"]) == pytest.approx((3 / 6 + 2 / 5) / 2)
    assert float(metric.compute()["pixel_accuracy"]) == pytest.approx(5 / 8)
    assert float(metric.compute()["foreground_ap"]) == 1


def test_average_precision_agrees_with_torchmetrics() -> None:
    heatmaps, masks, ignore = random_heatmaps(5).mul(4).round(), random_masks(5), random_masks(5, seed=4)
    precisions = segmentation_counts(heatmaps, masks, ignore).precisions
    up = torch.nn.Upsample(size=SIZE, mode="bilinear", align_corners=False)(heatmaps[:, None])[:, 0]
    for one, mask, skip, (both, foreground) in zip(up, masks, ignore, precisions.tolist(), strict=True):
        scores = ((one - one.min()) / (one.max() - one.min()))[~skip].double()
        truth = mask[~skip].long()
        assert foreground == pytest.approx(float(binary_average_precision(scores, truth)), rel=1e-5)
        two = binary_average_precision(torch.cat([1 - scores, scores]), torch.cat([1 - truth, truth]))
        assert both == pytest.approx(float(two), rel=1e-5)


def test_ignored_pixels_count_nowhere() -> None:
    heatmap = torch.tensor([[[1.0, 0.8], [0.4, 0.0]]])
    mask = torch.tensor([[[True, False], [False, False]]])
    metric = Segmentation()
    metric.update(heatmap, mask, ignore=torch.tensor([[[False, True], [False, False]]]))
    found = metric.compute()
    assert float(found["pixel_accuracy"]) == float(found["miou"]) == float(found["foreground_ap"]) == 1


def test_a_constant_map_is_all_background_and_an_empty_mask_is_left_out() -> None:
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, 0] = True
    metric = Segmentation()
    metric.update(torch.full((2, 3, 3), 0.3), masks)
    found = metric.compute()
    assert float(found["pixel_accuracy"]) == 0.75
    assert float(found["miou"]) == pytest.approx(0.375)
    assert int(found["count"]) == 1
