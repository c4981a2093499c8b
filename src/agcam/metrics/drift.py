"""Drift: how much a heatmap has changed."""

from __future__ import annotations

import torch
from torch import Tensor

from agcam.errors import InputError
from agcam.metrics.checks import check_heatmaps


def map_drift(before: Tensor, after: Tensor) -> Tensor:
    """1 − Spearman's rank correlation (B,) float64 on the CPU between two heatmaps of each image, in [0, 2].

    0: the cells are ranked as before; 1: no relation; 2: the other way round. Only ranks count, so that neither units
    nor contrast matter. Equal cells share their mean rank. NaN where one of the two maps is constant: it ranks nothing.

    Args:
        before: (B, h, w).
        after: (B, h, w), of the same images.

    Raises:
        InputError: shapes do not fit, or a heatmap is not finite.
    """
    check_heatmaps(before)
    check_heatmaps(after)
    if before.shape != after.shape:
        raise InputError(f"drift compares heatmaps of one shape, found {tuple(before.shape)} and {tuple(after.shape)}")
    first, second = (_ranks(maps.detach().cpu().flatten(1)) for maps in (before, after))
    spread = first.square().sum(1) * second.square().sum(1)
    return (1 - (first * second).sum(1) / spread.sqrt()).clamp(0, 2)


def _ranks(values: Tensor) -> Tensor:
    """Ranks (B, n) float64 of values (B, n), their mean subtracted; equal values share their mean rank."""
    ordered = values.sort(dim=1).values
    below = torch.searchsorted(ordered, values.contiguous())
    not_above = torch.searchsorted(ordered, values.contiguous(), right=True)
    return (below + not_above).double() / 2 - values.shape[1] / 2
