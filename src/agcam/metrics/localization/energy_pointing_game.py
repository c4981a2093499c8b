"""Energy pointing game (Wang et al. 2020, Score-CAM, arXiv 1910.01279): how much of the heatmap is on the object?"""

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


def energy_shares(heatmaps: Tensor, masks: Tensor, ignore: Tensor | None = None) -> Tensor:
    """Return the share (B,) float32, in [0, 1], of each heatmap's energy that lies on the object.

    Energy is the non-negative part of the upsampled heatmap in its own units. It is not scaled to [0, 1] first: that
    would subtract the minimum and change the shares. So a constant positive map scores the object's share of the
    image. Without energy (nothing above 0), or without an object pixel, the share is 0.

    Args:
        heatmaps: (B, h, w).
        masks: (B, H, W) bool, true on the object (filled boxes, in the paper).
        ignore: (B, H, W) bool, pixels to leave out.

    Raises:
        InputError: if shapes do not match, or a heatmap is not finite.
    """
    check_heatmaps(heatmaps)
    truth = check_masks(heatmaps, masks, ignore)
    if not len(heatmaps):
        return torch.zeros(0, device=heatmaps.device)
    energy = upsample(heatmaps, (int(truth.shape[1]), int(truth.shape[2]))).clamp_min(0)
    energy = energy / energy.amax((1, 2), keepdim=True).clamp_min(torch.finfo(energy.dtype).tiny)  # no overflow below
    if ignore is not None:
        energy = energy * ~ignore
    total = energy.sum((1, 2))
    return torch.where(total > 0, (energy * truth).sum((1, 2)) / total, 0.0)


class EnergyPointingGame(RowMeans):
    """Mean over images of the share of the heatmap's energy on the object, in [0, 1]. Wang et al. 2020.

    Every image counts: an empty mask and a map without energy score 0. Per-image values: `energy_shares`.

    Examples:
        >>> metric = EnergyPointingGame()
        >>> metric.update(explanation.placed[:, 0], masks)
        >>> metric.compute()["energy_pointing_game"]
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(1, _VALUES, **kwargs)

    def update(self, heatmaps: Tensor, masks: Tensor, ignore: Tensor | None = None) -> None:
        """Score heatmaps (B, h, w) against masks (B, H, W) bool; pixels in `ignore` (B, H, W) are excluded."""
        self.add(energy_shares(heatmaps, masks, ignore)[:, None])


def _rows(inputs: MetricInputs) -> Tensor:
    return energy_shares(inputs.heatmaps, *inputs.object_masks())[:, None]


_VALUES = (
    Value(
        "energy_pointing_game",
        column(0),
        "Energy pointing game (heat on the object)",
        "Share of all the heat that lies on the object.",
        minor=True,
    ),
)
register_metric(
    MetricSpec(
        "energy_pointing_game",
        _rows,
        _VALUES,
        needs="objects",
        group="Boxes and pointing",
        help="how much of the energy lies on the object",
        order=80,
    )
)
