"""PxAP (Choe et al. 2020, arXiv 2001.07437): average precision of the heatmap as a classifier of pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from agcam.metrics.checks import check_heatmaps, check_masks
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.localization.max_box_acc import THRESHOLDS, threshold_grid
from agcam.metrics.maps import evidence, upsample
from agcam.metrics.means import RowMeans
from agcam.metrics.registry import register_metric
from agcam.metrics.spec import MetricSpec, Value, parts

_TINY = torch.finfo(torch.float64).tiny  # the divisor where no pixel is kept; not 1, as mean counts may be below 1


def pixel_histograms(
    heatmaps: Tensor, masks: Tensor, thresholds: Tensor, ignore: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Count the pixels, off and on the object, by the number of thresholds that they pass.

    Args:
        heatmaps: (B, h, w), any units; upsampled (bilinear) and scaled to [0, 1] here; of maps
            with negative values the positive part.
        masks: (B, H, W) bool, true on the object.
        thresholds: (T,) ascending, in [0, 1).
        ignore: (B, H, W) bool, pixels to leave out.

    Returns:
        (B, 2, T + 1) int64: [b, 0, n] background and [b, 1, n] object pixels that are above exactly n thresholds.
        Histograms can be added: `histogram_precision` takes one image's, a data set's or their mean. And (B,) bool,
        which images have an object pixel; the others are excluded.

    Raises:
        InputError: if shapes do not match, or a heatmap is not finite.
    """
    check_heatmaps(heatmaps)
    truth = check_masks(heatmaps, masks, ignore)
    count, bins = len(heatmaps), len(thresholds) + 1
    valid = torch.ones_like(truth) if ignore is None else ~ignore
    counted = (truth & valid).flatten(1).any(1)
    if not count:
        return torch.zeros(0, 2, bins, dtype=torch.int64, device=heatmaps.device), counted
    size = (int(truth.shape[1]), int(truth.shape[2]))
    level = torch.bucketize(evidence(upsample(heatmaps, size)), thresholds.to(heatmaps.device))
    row = torch.arange(count, device=heatmaps.device)[:, None, None]
    place = (row * 2 + truth) * bins + level
    return torch.bincount(place[valid], minlength=count * 2 * bins).view(count, 2, bins), counted


def histogram_precision(histograms: Tensor) -> Tensor:
    """Return the average precision (…,) in [0, 1] of histograms (…, 2, T + 1): precision summed over steps of recall.

    It is computed in float64, on the CPU. The last operating point keeps every pixel, so recall always reaches 1. NaN
    where there is no object pixel.
    """
    passing = histograms.cpu().double().flip(-1)
    kept = passing.cumsum(-1)
    precision = kept[..., 1, :] / kept.sum(-2).clamp_min(_TINY)
    gained = passing[..., 1, :] / kept[..., 1, -1:]
    return (precision * gained).sum(-1)


class PxAP(RowMeans):
    """Pixel average precision, in [0, 1], over all pixels of the data set together. Choe et al. 2020.

    No threshold is chosen: all of them count. Only histograms are kept, whatever the number of images. Images
    without an object pixel are excluded. Per-image values: `histogram_precision(pixel_histograms(…)[0])`.

    Args:
        thresholds: how many, an even number: 0, 1/thresholds, … on the heatmap scaled to [0, 1].

    Examples:
        >>> metric = PxAP()
        >>> metric.update(explanation.placed[:, 0], masks, ignore=mask_ids == 255)
        >>> metric.compute()["pxap"]
    """

    def __init__(self, thresholds: int = 1000, **kwargs: Any) -> None:
        grid = threshold_grid(thresholds)
        super().__init__(2 * (thresholds + 1), _VALUES, **kwargs)
        self.thresholds = grid

    def update(self, heatmaps: Tensor, masks: Tensor, ignore: Tensor | None = None) -> None:
        """Score heatmaps (B, h, w) against masks (B, H, W) bool; pixels in `ignore` (B, H, W) are excluded."""
        histograms, counted = pixel_histograms(heatmaps, masks, self.thresholds, ignore)
        self.add(histograms.flatten(1), counted)


def _of_mean(rows: Tensor) -> Tensor:
    return histogram_precision(parts(2, rows))


def _rows(inputs: MetricInputs) -> Tensor:
    assert inputs.masks is not None
    return pixel_histograms(inputs.heatmaps, inputs.masks, THRESHOLDS, inputs.ignore)[0].flatten(1)


_VALUES = (
    Value(
        "pxap",
        _of_mean,
        "PxAP (pixel average precision)",
        "How well the heat sorts the pixels into object and background, over all thresholds. 1 is perfect.",
    ),
)
register_metric(
    MetricSpec(
        "pxap",
        _rows,
        _VALUES,
        needs="masks",
        group="Masks",
        help="pixel average precision over 100 thresholds",
        width=2 * (len(THRESHOLDS) + 1),
        order=50,
    )
)
