"""Noise that is a function of an image, a class and a cell: the same in any batch, process and order."""

from __future__ import annotations

import torch
from torch import Tensor

_STEP = -7046029254386353131
"""Of Steele et al. 2014 (SplitMix64), 2⁶⁴ divided by the golden ratio; int64 wraps around as uint64 does."""


def uniform(images: Tensor, classes: Tensor, grid: tuple[int, int], seed: int) -> Tensor:
    """Uniform noise in [0, 1), (B, T, h, w) float32.

    Args:
        images: (B, …); only equal images have equal noise.
        classes: (B, T) int64.
        grid: (h, w).
        seed: other noise for other seeds.
    """
    h, w = grid
    seeded = _mix(fingerprints(images) ^ _mix(torch.tensor(_signed(seed), device=images.device) + _STEP))
    key = _mix(seeded[:, None] + (classes + 1) * _STEP)
    cells = torch.arange(1, h * w + 1, device=images.device) * _STEP
    drawn = _mix(key[..., None] + cells)
    return (((drawn >> 40) & 0xFFFFFF).float() / 2**24).view(*classes.shape, h, w)


def fingerprints(images: Tensor) -> Tensor:
    """Number images (B, …): (B,) int64, the same on any device, and for float32 and its bfloat16."""
    words = images.detach().to(torch.bfloat16).contiguous().flatten(1).view(torch.int16)
    weights = _mix(torch.arange(1, words.shape[1] + 1, device=images.device) * _STEP) | 1
    # one by one, for this takes four times the memory of an image
    return torch.stack([(row.long() * weights).sum() for row in words])


def _signed(number: int) -> int:
    """Take the lower 64 bits of a whole number as int64."""
    return (number + 2**63) % 2**64 - 2**63


def _mix(state: Tensor) -> Tensor:
    """SplitMix64's finalizer: each bit of an int64 depends on all of them."""
    state = (state ^ ((state >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    state = (state ^ ((state >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return state ^ ((state >> 31) & 0x1FFFFFFFF)
