"""Segmentation by explanation (Chefer et al. 2021, arXiv 2012.09838): the map, cut at its mean, against the mask."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from agcam.metrics.checks import check_heatmaps, check_masks
from agcam.metrics.classification.average_precision import average_precision
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.maps import evidence, upsample
from agcam.metrics.means import RowMeans
from agcam.metrics.registry import register_metric
from agcam.metrics.spec import MetricSpec, Value, column

_ONE = 2**36
"""The integer that stands for 1: multiplied by the number of an image's pixels it fits into int64."""


class SegmentationCounts(NamedTuple):
    """What each image contributes; rows can be added, so the values of any subset follow from its rows.

    Attributes:
        pixels: (B, 6) int64: intersection and union of the background, of the foreground, then correct pixels and
            all pixels, without ignored ones.
        precisions: (B, 2) float32: average precision over both classes, and of the foreground alone.
        counted: (B,) bool, images with an object pixel; the others are excluded.
    """

    pixels: Tensor
    precisions: Tensor
    counted: Tensor


def segmentation_counts(heatmaps: Tensor, masks: Tensor, ignore: Tensor | None = None) -> SegmentationCounts:
    """Score heatmaps by Chefer's segmentation protocol, image by image.

    A heatmap is upsampled to the mask (bilinear) and scaled to [0, 1]; foreground is what is above its mean over the
    whole image. A constant map has nothing above its mean: all background.

    Args:
        heatmaps: (B, h, w), any units.
        masks: (B, H, W) bool, true on the object.
        ignore: (B, H, W) bool, pixels to leave out.

    Raises:
        InputError: if shapes do not match, or a heatmap is not finite.
    """
    check_heatmaps(heatmaps)
    truth = check_masks(heatmaps, masks, ignore).flatten(1)
    valid = torch.ones_like(truth) if ignore is None else ~ignore.flatten(1)
    if not len(heatmaps):
        pixels = torch.zeros(0, 6, dtype=torch.int64, device=heatmaps.device)
        return SegmentationCounts(pixels, pixels[:, :2].float(), pixels[:, 0].bool())
    maps = evidence(upsample(heatmaps, (int(masks.shape[1]), int(masks.shape[2])))).flatten(1)
    # integers: neither their sum nor 1 - map is rounded, which could move a pixel across the mean or make a tie
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


class Segmentation(RowMeans):
    """Pixel accuracy, mIoU and mAP, each in [0, 1], of heatmaps thresholded at their mean. Chefer et al. 2021.

    Pixel accuracy and mIoU are ratios of pixels counted over the whole data set; mIoU is the mean of background's and
    foreground's. mAP is that of the published code, so that published numbers can be compared: for each image the
    average precision over the pixels of both classes together, scored 1 - map as background and map as foreground,
    then the mean over images. A large background lifts it, so `foreground_ap`, the map's own average precision on the
    object's pixels, stands beside it. Images without an object pixel are excluded.

    Examples:
        >>> metric = Segmentation()
        >>> metric.update(explanation.placed[:, 0], masks, ignore=mask_ids == 255)
        >>> metric.compute()["miou"]
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(8, _VALUES, **kwargs)

    def update(self, heatmaps: Tensor, masks: Tensor, ignore: Tensor | None = None) -> None:
        """Score heatmaps (B, h, w) against masks (B, H, W) bool; pixels in `ignore` (B, H, W) are excluded."""
        counts = segmentation_counts(heatmaps, masks, ignore)
        self.add(torch.cat([counts.pixels.cpu().double(), counts.precisions.cpu().double()], 1), counts.counted)


def _rows(inputs: MetricInputs) -> Tensor:
    assert inputs.masks is not None
    counts = segmentation_counts(inputs.heatmaps, inputs.masks, inputs.ignore)
    rows = torch.cat([counts.pixels, counts.precisions], 1)
    rows[~counts.counted] = torch.nan
    return rows


def _pixel_accuracy(rows: Tensor) -> Tensor:
    return rows[..., 4] / rows[..., 5]


def _miou(rows: Tensor) -> Tensor:
    # a class that is neither present nor predicted has IoU 0, as in the published code
    return (rows[..., :4:2] / rows[..., 1:4:2].clamp_min(1e-12)).mean(-1)


_VALUES = (
    Value(
        "segmentation/pixel_accuracy",
        _pixel_accuracy,
        "Pixel accuracy, cut at the mean",
        "Share of pixels that are right when everything hotter than average counts as object.",
        minor=True,
    ),
    Value(
        "segmentation/miou",
        _miou,
        "mIoU (mean IoU, cut at the mean)",
        "Overlap, averaged over object and background, when everything hotter than average counts as object.",
        minor=True,
    ),
    Value(
        "segmentation/map",
        column(6),
        "mAP of pixels (mean average precision)",
        "How well the heat ranks object pixels above background pixels, and background pixels above object pixels "
        "when inverted. 1 is perfect. A large background lifts it.",
        minor=True,
    ),
    Value(
        "segmentation/foreground_ap",
        column(7),
        "Average precision of the object",
        "How well the heat ranks object pixels above background pixels. 1 is perfect.",
        minor=True,
    ),
)
register_metric(
    MetricSpec(
        "segmentation",
        _rows,
        _VALUES,
        needs="masks",
        group="Masks",
        help="the map thresholded at its mean (Chefer et al. 2021)",
        width=8,
        order=60,
    )
)
