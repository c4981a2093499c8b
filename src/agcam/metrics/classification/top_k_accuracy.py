"""Top-k accuracy with a rule for ties, so that it is a function of each image's logits alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


def top_k_hits(logits: Tensor, label: Tensor, k: int) -> Tensor:
    """Return whether (B,) bool the label is among the k classes of highest logit.

    Of equal logits the class of lower index comes first, as in `argmax`; `topk` takes whichever it finds.

    Args:
        logits: (B, C).
        label: (B,) int64.
        k: at least 1.
    """
    own = logits.gather(1, label.unsqueeze(1))
    earlier = torch.arange(logits.shape[1], device=logits.device) < label.unsqueeze(1)
    before = (logits > own) | ((logits == own) & earlier)
    return before.sum(1) < k


class TopKAccuracy(Metric):
    """Share of images, in [0, 1], whose label is among the k classes of highest logit; ties as in `top_k_hits`.

    NaN where the logits of any image hold NaN: they rank nothing.

    Args:
        k: 1 for top-1 accuracy.

    Examples:
        >>> metric = TopKAccuracy(5)
        >>> metric.update(logits, labels)
        >>> metric.compute()
    """

    full_state_update = False
    hits: Tensor
    count: Tensor
    broken: Tensor

    def __init__(self, k: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k
        for name in ("hits", "count", "broken"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Add a batch: logits (B, C), label (B,) int64."""
        self.hits += top_k_hits(logits, label, self.k).sum()
        self.count += len(label)
        self.broken += logits.isnan().any(1).sum()

    def compute(self) -> Tensor:
        """Return the share; NaN where no image was added."""
        return torch.where(self.broken > 0, torch.nan, self.hits / self.count)
