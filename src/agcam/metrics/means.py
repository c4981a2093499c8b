"""Means over images, of one figure or of several at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from agcam.errors import InputError
from agcam.metrics import sums


class ImageMean(Metric):
    """Mean over images of one figure, such as the loss. NaN in any image makes it NaN.

    Example:
        >>> metric = ImageMean()
        >>> metric.update(losses)
        >>> metric.compute()
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", sums.zeros(), dist_reduce_fx=sums.merged)
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, values: Tensor) -> None:
        """Add the figure (B,) of a batch of images."""
        self.total = sums.plus(self.total, values)
        self.count += len(values)

    def compute(self) -> Tensor:
        """The mean; NaN where no image was added."""
        return (sums.read(self.total) / self.count.cpu()).float().to(self.device)


class ImageMeans(Metric):
    """Mean over images of each of F named figures. NaN leaves an image out of that figure.

    The states are sums and counts, so that any number of processes gives the same means.

    Args:
        names: of the figures, F.

    Example:
        >>> metric = ImageMeans(["entropy"])
        >>> metric.update(map_entropy(explanation.heatmaps[:, 0])[:, None])
        >>> metric.compute()["entropy"]
    """

    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self, names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = tuple(names)
        self.add_state("sums", sums.zeros(len(names)), dist_reduce_fx=sums.merged)
        self.add_state("counts", torch.zeros(len(names), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, values: Tensor) -> None:
        """Add the figures (B, F) of a batch of images.

        Raises:
            InputError: if there are not F of them.
        """
        if values.dim() != 2 or values.shape[1] != len(self.names):
            raise InputError(f"values must be (B, {len(self.names)}), found {tuple(values.shape)}")
        known = ~values.isnan()
        self.sums = sums.plus(self.sums, values.nan_to_num(0.0, torch.inf, -torch.inf))
        self.counts += known.sum(0).to(self.counts)

    def compute(self) -> dict[str, Tensor]:
        """The means by name, those of no image left out, and `count`: how many images the first figure has."""
        means = (sums.read(self.sums) / self.counts.cpu()).float().to(self.device)
        found = {name: means[k] for k, name in enumerate(self.names) if int(self.counts[k])}
        return found | {"count": self.counts[0]}
