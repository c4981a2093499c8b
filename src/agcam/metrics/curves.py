"""What the faithfulness metrics keep: the sums of two curves, whatever the number of images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from agcam.errors import InputError
from agcam.metrics import sums


class CurvePair(Metric):
    """Sums of two curves over images, (2, F), and the number of images.

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
        self.add_state("sums", sums.zeros(2, steps), dist_reduce_fx=sums.merged)
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def model(self) -> nn.Module:
        """The model that is asked."""
        return self._held[0]

    def add(self, first: Tensor, second: Tensor) -> None:
        """Add the curves (F, B) of a batch of images."""
        self.sums = sums.plus(self.sums, torch.stack([first.T, second.T], 1))
        self.count += first.shape[1]

    def means(self) -> tuple[Tensor, Tensor]:
        """The mean curves, (F,) float64 on the CPU each; NaN where no image was added."""
        first, second = sums.read(self.sums) / self.count.cpu()
        return first, second
