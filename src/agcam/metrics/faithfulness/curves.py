"""What the faithfulness metrics keep: the sums of two curves, whatever the number of images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from agcam.errors import InputError


class CurvePair(Metric):
    """Sums of two curves over images, (2, F) float64, and the number of images.

    Args:
        model: gives logits (n, C) for images (n, 3, H, W); neither copied nor moved nor saved with the metric.
        steps: F, the number of points of each curve.
        batch_size: images a forward.
    """

    full_state_update = False
    sums: Tensor
    count: Tensor

    def __init__(self, model: nn.Module, steps: int, batch_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if batch_size < 1:
            raise InputError(f"batch_size must be 1 or more, found {batch_size}")
        # in a tuple, where torch does not take it for a part of the metric
        self._held = (model,)
        self.batch_size = batch_size
        self.add_state("sums", torch.zeros(2, steps, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def model(self) -> nn.Module:
        """The model that is asked."""
        return self._held[0]

    def add(self, first: Tensor, second: Tensor) -> None:
        """Add the curves (F, B) of a batch of images."""
        self.sums += torch.stack([first.double().sum(1), second.double().sum(1)]).to(self.sums)
        self.count += first.shape[1]

    def means(self) -> tuple[Tensor, Tensor]:
        """The mean curves, (F,) float64 each; NaN where no image was added."""
        return self.sums[0] / self.count, self.sums[1] / self.count
