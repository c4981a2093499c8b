"""Pointing game (Zhang et al. 2018, arXiv 1608.00507): does the highest point of the heatmap lie on the object?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from agcam.metrics.checks import check_heatmaps, check_masks
from agcam.metrics.maps import upsample


def pointing_hits(heatmaps: Tensor, masks: Tensor) -> Tensor:
    """Whether (B,) bool the maximum of each heatmap (B, h, w), upsampled to the mask (B, H, W) bool, lies on it.

    The first of equal maxima points. A constant map points nowhere and an empty mask holds nothing: both are misses.

    Raises:
        InputError: shapes do not fit, or a heatmap is not finite.
    """
    check_heatmaps(heatmaps)
    truth = check_masks(heatmaps, masks)
    if not len(heatmaps):
        return torch.zeros(0, dtype=torch.bool, device=heatmaps.device)
    maps = upsample(heatmaps, (int(truth.shape[1]), int(truth.shape[2]))).flatten(1)
    varied = maps.amax(1) > maps.amin(1)
    return truth.flatten(1).gather(1, maps.argmax(1, keepdim=True))[:, 0] & varied


class PointingGame(Metric):
    """Share of heatmaps, in [0, 1], whose maximum, upsampled to the image, lies on the object.

    A constant map points nowhere and an empty mask holds nothing: both are misses. Per-image hits: `pointing_hits`.

    Example:
        >>> metric = PointingGame()
        >>> metric.update(explanation.heatmaps[:, 0], masks)
        >>> metric.compute()
    """

    full_state_update = False
    hits: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("hits", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, heatmaps: Tensor, masks: Tensor) -> None:
        """Score heatmaps (B, h, w) against masks (B, H, W) bool, true on the object (filled boxes will do)."""
        self.hits += pointing_hits(heatmaps, masks).sum().to(self.hits)
        self.count += len(heatmaps)

    def compute(self) -> Tensor:
        """The share of hits; NaN where no image was scored."""
        return self.hits / self.count
