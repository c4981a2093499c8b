"""PxAP against a slow implementation, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agcam.metrics import PxAP
from agcam.metrics.localization.pxap import histogram_precision, pixel_histograms, threshold_grid
from metric_cases import SIZE, random_heatmaps, random_masks


def slow_pxap(heatmaps: torch.Tensor, masks: torch.Tensor, ignore: torch.Tensor, steps: int) -> float:
    """Precision and recall counted anew at every threshold, over all pixels of the data set."""
    up = torch.nn.Upsample(size=SIZE, mode="bilinear", align_corners=False)(heatmaps[:, None])[:, 0].numpy()
    scores = np.concatenate(
        [((one - one.min()) / (one.max() - one.min()))[~skip] for one, skip in zip(up, ignore.numpy(), strict=True)]
    )
    truth = np.concatenate([mask[~skip] for mask, skip in zip(masks.numpy(), ignore.numpy(), strict=True)])
    area, recall = 0.0, 0.0
    for threshold in [*(np.float32(step / steps) for step in reversed(range(steps))), -1.0]:
        kept = scores > threshold
        if kept.any():
            reached = (kept & truth).sum() / truth.sum()
            area += (kept & truth).sum() / kept.sum() * (reached - recall)
            recall = reached
    assert recall == 1
    return area


@pytest.mark.parametrize("steps", [10, 100])
def test_agrees_with_the_slow_one(steps: int) -> None:
    heatmaps, masks, ignore = random_heatmaps(100), random_masks(100), random_masks(100, seed=9)
    metric = PxAP(steps)
    metric.update(heatmaps, masks, ignore)
    expected = slow_pxap(heatmaps, masks, ignore, steps)
    assert 0.2 < expected < 0.9
    assert float(metric.compute()["pxap"]) == pytest.approx(expected, rel=1e-5)


def test_by_hand() -> None:
    # ranked: object, background, object, background -> precisions 1 and 2/3 at recalls 1/2 and 1
    heatmap = torch.tensor([[[1.0, 0.75], [0.5, 0.0]]])
    mask = torch.tensor([[[True, False], [True, False]]])
    metric = PxAP(10)
    metric.update(heatmap, mask)
    assert float(metric.compute()["pxap"]) == pytest.approx((1 + 2 / 3) / 2)


def test_ignored_pixels_are_left_out() -> None:
    heatmap = torch.tensor([[[1.0, 0.75], [0.5, 0.0]]])
    mask = torch.tensor([[[True, False], [True, False]]])
    metric = PxAP(10)
    metric.update(heatmap, mask, ignore=torch.tensor([[[False, True], [False, False]]]))
    assert float(metric.compute()["pxap"]) == 1


def test_a_constant_map_has_the_objects_share_and_an_empty_mask_is_left_out() -> None:
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, 0] = True
    metric = PxAP()
    metric.update(torch.ones(2, 2, 2), masks)
    assert float(metric.compute()["pxap"]) == 0.25
    assert int(metric.compute()["count"]) == 1


def test_per_image_figures_come_from_per_image_histograms() -> None:
    heatmaps, masks = random_heatmaps(4), random_masks(4)
    histograms, counted = pixel_histograms(heatmaps, masks, threshold_grid(100))
    assert counted.all()
    assert histograms.sum((1, 2)).tolist() == [SIZE[0] * SIZE[1]] * 4
    for row, figure in enumerate(histogram_precision(histograms).tolist()):
        metric = PxAP(100)
        metric.update(heatmaps[row : row + 1], masks[row : row + 1])
        assert figure == pytest.approx(float(metric.compute()["pxap"]))
