"""Pointing game (Zhang et al. 2018): does the highest point of the heatmap lie on the object?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from agcam.errors import InputError
from agcam.metrics.maps import upsample


class PointingGame(Metric):
    """Share of heatmaps, in [0, 1], whose maximum, upsampled to the image, lies on the object.

    A constant map points nowhere and an empty mask holds nothing: both are misses.

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
        if heatmaps.dim() != 3 or masks.dim() != 3 or len(heatmaps) != len(masks):
            raise InputError(
                f"heatmaps {tuple(heatmaps.shape)} and masks {tuple(masks.shape)} must be (B, h, w), (B, H, W)"
            )
        if not len(heatmaps):
            return
        height, width = masks.shape[1:]
        maps = upsample(heatmaps, (height, width)).flatten(1)
        varied = maps.amax(1) > maps.amin(1)
        hit = masks.flatten(1).bool().gather(1, maps.argmax(1, keepdim=True))[:, 0]
        self.hits += (hit & varied).sum()
        self.count += len(heatmaps)

    def compute(self) -> Tensor:
        """The share of hits; NaN where no image was scored."""
        return (self.hits.double() / self.count).float()
