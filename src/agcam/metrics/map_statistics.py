"""Statistics of heatmaps alone: how spread out they are, how much they changed, whether they contradict the answer."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agcam.errors import InputError
from agcam.metrics.checks import check_heatmaps


def map_entropy(heatmaps: Tensor) -> Tensor:
    """Return the entropy (B,) float64 on the CPU of each heatmap as a distribution, as a share of the largest possible.

    0: all heat in one cell; 1: the same everywhere. Heat is the part above 0, as in the energy pointing game. NaN for
    a map without heat, and for maps of a single cell.

    Args:
        heatmaps: (B, h, w), best on the patch grid: upsampling spreads the heat.

    Raises:
        InputError: if shapes do not match, or a heatmap is not finite.
    """
    check_heatmaps(heatmaps)
    heat = heatmaps.detach().cpu().double().flatten(1).clamp_min(0)
    heat = heat / heat.amax(1, keepdim=True)  # before the sum, which could overflow
    shares = heat / heat.sum(1, keepdim=True)
    cells = heat.shape[1]
    most = math.log(cells) if cells > 1 else math.nan
    entropy: Tensor = torch.special.entr(shares).sum(1)
    return (entropy / most).clamp(0, 1)


def reasons(hits: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
    """Find the images where the class is right but the heatmap is not, and the other way round.

    Args:
        hits: (B,) bool, whether the heatmap's maximum lies on the object; see `pointing_hits`.
        correct: (B,) bool, whether the image is classified right.

    Returns:
        Right for the wrong reason (B,) bool: classified right, the maximum elsewhere. Wrong but looking right (B,)
        bool: classified wrong, the maximum on the object.
    """
    return correct & ~hits, ~correct & hits


def map_drift(before: Tensor, after: Tensor) -> Tensor:
    """Return 1 − Spearman's rank correlation (B,) float64 on the CPU between two heatmaps of each image, in [0, 2].

    0: the cells are ranked as before; 1: no relation; 2: the reverse order. Only ranks count, so neither units nor
    contrast matter. Equal cells share their mean rank. NaN where one of the two maps is constant and ranks nothing.

    Args:
        before: (B, h, w).
        after: (B, h, w), of the same images.

    Raises:
        InputError: if shapes do not match, or a heatmap is not finite.
    """
    check_heatmaps(before)
    check_heatmaps(after)
    if before.shape != after.shape:
        raise InputError(f"drift compares heatmaps of one shape, found {tuple(before.shape)} and {tuple(after.shape)}")
    first, second = (_ranks(maps.detach().cpu().flatten(1)) for maps in (before, after))
    spread = first.square().sum(1) * second.square().sum(1)
    return (1 - (first * second).sum(1) / spread.sqrt()).clamp(0, 2)


def _ranks(values: Tensor) -> Tensor:
    """Return ranks (B, n) float64 of values (B, n), minus their mean; equal values share their mean rank."""
    ordered = values.sort(dim=1).values
    below = torch.searchsorted(ordered, values.contiguous())
    not_above = torch.searchsorted(ordered, values.contiguous(), right=True)
    return (below + not_above).double() / 2 - values.shape[1] / 2
