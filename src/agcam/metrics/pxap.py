"""PxAP (Choe et al. 2020, arXiv 2001.07437): average precision of the heatmap as a classifier of pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from agcam.metrics.checks import check_heatmaps, check_masks
from agcam.metrics.maps import min_max, upsample
from agcam.metrics.max_box_acc import threshold_grid


def pixel_histograms(
    heatmaps: Tensor, masks: Tensor, thresholds: Tensor, ignore: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """How many pixels, off and on the object, pass how many thresholds.

    Args:
        heatmaps: (B, h, w), any units; upsampled (bilinear) and scaled to [0, 1] here.
        masks: (B, H, W) bool, true on the object.
        thresholds: (T,) ascending, in [0, 1).
        ignore: (B, H, W) bool, pixels to leave out.

    Returns:
        (B, 2, T + 1) int64: [b, 0, n] background and [b, 1, n] object pixels that are above exactly n thresholds.
        Histograms of images add up, and `average_precision` takes one image's or a data set's. And (B,) bool: which
        images have an object pixel; the others are left out.

    Raises:
        InputError: shapes do not fit, or a heatmap is not finite.
    """
    check_heatmaps(heatmaps)
    truth = check_masks(heatmaps, masks, ignore)
    count, bins = len(heatmaps), len(thresholds) + 1
    valid = torch.ones_like(truth) if ignore is None else ~ignore
    counted = (truth & valid).flatten(1).any(1)
    if not count:
        return torch.zeros(0, 2, bins, dtype=torch.int64, device=heatmaps.device), counted
    size = (int(truth.shape[1]), int(truth.shape[2]))
    level = torch.bucketize(min_max(upsample(heatmaps, size)), thresholds.to(heatmaps.device))
    row = torch.arange(count, device=heatmaps.device)[:, None, None]
    place = (row * 2 + truth) * bins + level
    return torch.bincount(place[valid], minlength=count * 2 * bins).view(count, 2, bins), counted


def average_precision(histograms: Tensor) -> Tensor:
    """Average precision (…,) in [0, 1] from histograms (…, 2, T + 1): precision summed over the steps of recall.

    It is made in float64, on the CPU. The last operating point keeps every pixel, so recall always reaches 1. NaN
    where there is no object pixel.
    """
    passing = histograms.cpu().double().flip(-1)
    kept = passing.cumsum(-1)
    precision = kept[..., 1, :] / kept.sum(-2).clamp_min(1)
    gained = passing[..., 1, :] / kept[..., 1, -1:]
    return (precision * gained).sum(-1)


class PxAP(Metric):
    """Pixel average precision, in [0, 1], over all pixels of the data set together. Choe et al. 2020.

    No threshold is chosen: all of them count. Only histograms are kept, whatever the number of images. Images
    without an object pixel are left out. Per-image figures: `average_precision(pixel_histograms(…)[0])`.

    Args:
        thresholds: how many, an even number: 0, 1/thresholds, … on the heatmap scaled to [0, 1].

    Example:
        >>> metric = PxAP()
        >>> metric.update(explanation.heatmaps[:, 0], masks, ignore=mask_ids == 255)
        >>> metric.compute()["pxap"]
    """

    full_state_update = False
    histogram: Tensor
    count: Tensor

    def __init__(self, thresholds: int = 1000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.thresholds = threshold_grid(thresholds)
        self.add_state("histogram", torch.zeros(2, thresholds + 1, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, heatmaps: Tensor, masks: Tensor, ignore: Tensor | None = None) -> None:
        """Score heatmaps (B, h, w) against masks (B, H, W) bool; pixels where `ignore` (B, H, W) is true count not."""
        histograms, counted = pixel_histograms(heatmaps, masks, self.thresholds, ignore)
        self.histogram += histograms[counted].sum(0).to(self.histogram)
        self.count += counted.sum().to(self.count)

    def compute(self) -> dict[str, Tensor]:
        """`pxap` (NaN where no image was scored) and `count` of images."""
        return {"pxap": average_precision(self.histogram).float().to(self.device), "count": self.count}
