"""Average precision: how well scores rank the positives above the rest."""

from __future__ import annotations

import torch
from torch import Tensor


def average_precision(scores: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the average precision (B,) float32 of each ranking by score, with ties as one; 0 without positives.

    Args:
        scores: (B, N), without NaN; any units, only their order counts.
        truth: (B, N) bool, the positives.
        valid: (B, N) bool, which entries count; all if None.
    """
    length = scores.shape[1]
    valid = torch.ones_like(truth) if valid is None else valid
    scores, order = scores.sort(dim=1, descending=True)
    positive = (truth & valid).gather(1, order)
    hits, seen = positive.cumsum(1), valid.gather(1, order).cumsum(1)
    ends = torch.ones_like(positive)
    ends[:, :-1] = scores[:, 1:] != scores[:, :-1]
    place = torch.arange(length, device=scores.device).expand_as(order)
    end = torch.where(ends, place, length).flip(1).cummin(1).values.flip(1)
    precision = hits.gather(1, end) / seen.gather(1, end).clamp_min(1)
    return (precision * positive).sum(1) / hits[:, -1].clamp_min(1)
