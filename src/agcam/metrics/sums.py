"""Sums in float64 as metric states, on any device and in any precision.

A sum of float32 numbers over 100,000 images depends in its fourth or fifth digit on how they were cut into batches. In
float64 it does not, but Apple's GPUs have no float64, and casting a module to bfloat16 casts its metrics' states. So a
state holds the bits of float64 numbers as int64, and the sums are made on the CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor


def zeros(*shape: int) -> Tensor:
    """Sums of nothing, as a default for `Metric.add_state(…, dist_reduce_fx=merged)`."""
    return torch.zeros(shape, dtype=torch.int64)


def plus(sums: Tensor, values: Tensor) -> Tensor:
    """The sums (…) with those of `values` (B, …) over images added, on the device of `sums`."""
    total = read(sums) + values.detach().cpu().double().sum(0)
    return total.view(torch.int64).to(sums.device)


def merged(sums: Tensor) -> Tensor:
    """The sums (…) of all processes, from those of each (W, …)."""
    return read(sums).sum(0).view(torch.int64).to(sums.device)


def read(sums: Tensor) -> Tensor:
    """The sums in float64, on the CPU."""
    return sums.cpu().view(torch.float64)
