"""How a heatmap spreads its heat, and what that says beside the model's answer."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agcam.metrics.checks import check_heatmaps


def map_entropy(heatmaps: Tensor) -> Tensor:
    """Entropy (B,) float64 on the CPU of each heatmap, read as a distribution, as a share of the largest possible one.

    0: all heat in one cell; 1: the same everywhere. Heat is the part above 0, as in the energy pointing game. NaN for
    a map without any, and for maps of a single cell.

    Args:
        heatmaps: (B, h, w), best on the patch grid: upsampling spreads the heat.

    Raises:
        InputError: shapes do not fit, or a heatmap is not finite.
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
    """Where answer and evidence disagree.

    Args:
        hits: (B,) bool, whether the heatmap's maximum lies on the object; see `pointing_hits`.
        correct: (B,) bool, whether the image is classified right.

    Returns:
        Right for the wrong reason (B,) bool: classified right, the maximum elsewhere. Wrong but looking right (B,)
        bool: classified wrong, the maximum on the object.
    """
    return correct & ~hits, ~correct & hits
