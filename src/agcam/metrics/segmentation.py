"""Segmentation by explanation (Chefer et al. 2021, arXiv 2012.09838): the map, cut at its mean, against the mask."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from agcam.metrics import sums
from agcam.metrics.average_precision import average_precision
from agcam.metrics.checks import check_heatmaps, check_masks
from agcam.metrics.maps import min_max, upsample

_ONE = 2**36
"""What 1 is as a whole number: its product with the pixels of an image fits into int64."""


class SegmentationCounts(NamedTuple):
    """What one image each contributes; rows add up, so any subset's figures follow from its rows.

    Attributes:
        pixels: (B, 6) int64: intersection and union of the background, of the foreground, then correct pixels and
            all pixels (ignored ones excepted).
        precisions: (B, 2) float32: average precision over both classes, and of the foreground alone.
        counted: (B,) bool: images with an object pixel; the others are left out.
    """

    pixels: Tensor
    precisions: Tensor
    counted: Tensor


def segmentation_counts(heatmaps: Tensor, masks: Tensor, ignore: Tensor | None = None) -> SegmentationCounts:
    """Chefer's segmentation protocol, image by image.

    A heatmap is upsampled to the mask (bilinear) and scaled to [0, 1]; foreground is what is above its mean over the
    whole image. A constant map has nothing above its mean: all background.

    Args:
        heatmaps: (B, h, w), any units.
        masks: (B, H, W) bool, true on the object.
        ignore: (B, H, W) bool, pixels to leave out.

    Raises:
        InputError: shapes do not fit, or a heatmap is not finite.
    """
    check_heatmaps(heatmaps)
    truth = check_masks(heatmaps, masks, ignore).flatten(1)
    valid = torch.ones_like(truth) if ignore is None else ~ignore.flatten(1)
    if not len(heatmaps):
        pixels = torch.zeros(0, 6, dtype=torch.int64, device=heatmaps.device)
        return SegmentationCounts(pixels, pixels[:, :2].float(), pixels[:, 0].bool())
    maps = min_max(upsample(heatmaps, (int(masks.shape[1]), int(masks.shape[2])))).flatten(1)
    # whole numbers: neither their sum nor 1 - map rounds, so that no pixel crosses the mean or ties with another
    level = (maps * _ONE).long()
    found = level * level.shape[1] > level.sum(1, keepdim=True)

    def overlap(one: Tensor, other: Tensor) -> list[Tensor]:
        return [(one & other & valid).sum(1), ((one | other) & valid).sum(1)]

    correct = ((found == truth) & valid).sum(1)
    both = average_precision(
        torch.cat([_ONE - level, level], 1), torch.cat([~truth, truth], 1), torch.cat([valid, valid], 1)
    )
    return SegmentationCounts(
        torch.stack([*overlap(~found, ~truth), *overlap(found, truth), correct, valid.sum(1)], 1),
        torch.stack([both, average_precision(level, truth, valid)], 1),
        (truth & valid).any(1),
    )


class Segmentation(Metric):
    """Pixel accuracy, mIoU and mAP, each in [0, 1], of heatmaps cut at their mean. Chefer et al. 2021.

    Pixel accuracy and mIoU are ratios of pixels counted over the whole data set; mIoU is the mean of background's and
    foreground's, and what is neither there nor found anywhere counts as 0, as in the published code. mAP is that of
    the published code, so that published figures can be compared: for each image the average precision over the
    pixels of both classes together, scored 1 - map as background and map as foreground, then the mean over images. A
    large background lifts it, so `foreground_ap`, the map's own average precision on the object's pixels, stands
    beside it. Images without an object pixel are left out.

    Example:
        >>> metric = Segmentation()
        >>> metric.update(explanation.heatmaps[:, 0], masks, ignore=mask_ids == 255)
        >>> metric.compute()["miou"]
    """

    full_state_update = False
    pixels: Tensor
    precisions: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("pixels", torch.zeros(6, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("precisions", sums.zeros(2), dist_reduce_fx=sums.merged)
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, heatmaps: Tensor, masks: Tensor, ignore: Tensor | None = None) -> None:
        """Score heatmaps (B, h, w) against masks (B, H, W) bool; pixels where `ignore` (B, H, W) is true count not."""
        pixels, precisions, counted = segmentation_counts(heatmaps, masks, ignore)
        self.pixels += pixels[counted].sum(0).to(self.pixels)
        self.precisions = sums.plus(self.precisions, precisions[counted])
        self.count += counted.sum().to(self.count)

    def compute(self) -> dict[str, Tensor]:
        """`pixel_accuracy`, `miou`, `map`, `foreground_ap` (NaN where no image was scored) and `count` of images."""
        correct, total = self.pixels[4:]
        ious = self.pixels[:4:2] / self.pixels[1:4:2].clamp_min(1)
        both, foreground = (sums.read(self.precisions) / self.count.cpu()).float().to(self.device)
        return {
            "pixel_accuracy": correct / total,
            "miou": torch.where(self.count > 0, ious.mean(), torch.nan),
            "map": both,
            "foreground_ap": foreground,
            "count": self.count,
        }
