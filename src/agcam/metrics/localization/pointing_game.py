"""Pointing game (Zhang et al. 2018, arXiv 1608.00507): does the highest point of the heatmap lie on the object?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from agcam.metrics.checks import check_heatmaps, check_masks
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.maps import upsample
from agcam.metrics.means import RowMeans
from agcam.metrics.registry import register_metric
from agcam.metrics.spec import MetricSpec, Value, column

_ROUNDING = 1e-6


def pointing_hits(heatmaps: Tensor, masks: Tensor) -> Tensor:
    """Return whether (B,) bool the maximum of each heatmap (B, h, w), upsampled, lies on its mask (B, H, W) bool.

    Of maxima that are equal to rounding the first counts: the hottest patch at a border is a plateau of pixels, which
    interpolation makes equal but for the last digit. A constant map points nowhere and an empty mask holds nothing:
    both are misses.

    Raises:
        InputError: if shapes do not match, or a heatmap is not finite.
    """
    check_heatmaps(heatmaps)
    truth = check_masks(heatmaps, masks)
    if not len(heatmaps):
        return torch.zeros(0, dtype=torch.bool, device=heatmaps.device)
    maps = upsample(heatmaps, (int(truth.shape[1]), int(truth.shape[2]))).flatten(1)
    varied = maps.amax(1) > maps.amin(1)
    hottest = maps >= maps.amax(1, keepdim=True) - _ROUNDING * maps.abs().amax(1, keepdim=True)
    return truth.flatten(1).gather(1, hottest.int().argmax(1, keepdim=True))[:, 0] & varied


class PointingGame(RowMeans):
    """Share of heatmaps, in [0, 1], whose maximum, upsampled to the image, lies on the object.

    A constant map points nowhere and an empty mask holds nothing: both are misses. Per-image hits: `pointing_hits`.

    Examples:
        >>> metric = PointingGame()
        >>> metric.update(explanation.placed[:, 0], masks)
        >>> metric.compute()
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(1, **kwargs)

    def update(self, heatmaps: Tensor, masks: Tensor) -> None:
        """Score heatmaps (B, h, w) against masks (B, H, W) bool, true on the object (or on filled boxes)."""
        self.add(pointing_hits(heatmaps, masks)[:, None])

    def compute(self) -> Tensor:
        """Return the share of hits; NaN where no image was scored."""
        return self.mean()[0].float().to(self.device)


def _rows(inputs: MetricInputs) -> Tensor:
    return pointing_hits(inputs.heatmaps, inputs.object_masks()[0])[:, None]


register_metric(
    MetricSpec(
        "pointing_game",
        _rows,
        (
            Value(
                "pointing_game",
                column(0),
                "Pointing game (peak on the object)",
                "Whether the hottest point lies on the object: 1 or 0 for one image, the share of 1 for many.",
            ),
        ),
        needs="objects",
        group="Boxes and pointing",
        help="does the peak lie on the object",
        order=70,
    )
)
