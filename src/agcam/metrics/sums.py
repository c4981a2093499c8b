"""Sums in float64 as metric states, on any device and in any precision.

The fourth or fifth digit of a float32 sum over 100,000 images depends on how they were batched; in float64 it does not.
But Apple's GPUs have no float64, and casting a module to bfloat16 casts its metrics' states. So a state holds the bits
of float64 numbers as int64, and the sums are computed on the CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor


def zeros(*shape: int) -> Tensor:
    """Return sums of nothing, the default for `Metric.add_state(…, dist_reduce_fx=merged)`."""
    return torch.zeros(shape, dtype=torch.int64)


def plus(sums: Tensor, values: Tensor) -> Tensor:
    """Add the sums of `values` (B, …) over images to `sums` (…); return them on the device of `sums`."""
    total = read(sums) + values.detach().cpu().double().sum(0)
    return total.view(torch.int64).to(sums.device)


def merged(sums: Tensor) -> Tensor:
    """Add up the sums of all processes (W, …); return them (…)."""
    return read(sums).sum(0).view(torch.int64).to(sums.device)


def read(sums: Tensor) -> Tensor:
    """Return the sums in float64, on the CPU."""
    return sums.cpu().view(torch.float64)
