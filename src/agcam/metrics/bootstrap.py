"""Percentile bootstrap of a mean, and of the difference of two means over the same images (Efron & Tibshirani)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from agcam.errors import InputError

# indices drawn at once: 32 MiB, whatever the number of values
_DRAWN = 1 << 22


class PairedDifference(NamedTuple):
    """A difference of means with its interval, and how surprising it were if there was none.

    Attributes:
        difference: mean of a - b.
        low: lower end of the interval.
        high: upper end.
        p_value: two-sided, in (0, 1].
    """

    difference: float
    low: float
    high: float
    p_value: float


def bootstrap_interval(
    values: Tensor | Sequence[float], samples: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean of `values` (n,), one value an image, in their units.

    Args:
        values: (n,), finite, n >= 1.
        samples: how many resamples.
        seed: the same values and seed give the same interval.
        level: in (0, 1), the share of resampled means inside.

    Raises:
        InputError: no values, NaN or infinite ones, or an argument out of range.
    """
    return _interval(_resampled_means(_checked("values", values), samples, seed), level)


def paired_bootstrap(
    a: Tensor | Sequence[float],
    b: Tensor | Sequence[float],
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> PairedDifference:
    """Whether the mean of `a` differs from that of `b`, both (n,) over the same images in the same order.

    Images are resampled with both their values. The p-value is twice the smaller share of resampled differences on
    one side of zero (the one found counted in, so it is never 0: 2/(samples + 1) at least): where it is below
    1 - level, the interval leaves zero out, up to the grain of the samples.

    Raises:
        InputError: the lengths differ, or as in `bootstrap_interval`.
    """
    one, other = _checked("a", a), _checked("b", b)
    if len(one) != len(other):
        raise InputError(f"paired values need the same images: found {len(one)} in a and {len(other)} in b")
    difference = one - other
    means = _resampled_means(difference, samples, seed)
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    p_value = min(1.0, 2 * (tail + 1) / (samples + 1))
    return PairedDifference(difference.mean().item(), *_interval(means, level), p_value)


def _checked(name: str, values: Tensor | Sequence[float]) -> Tensor:
    numbers = torch.as_tensor(values).detach().cpu().double()
    if numbers.dim() != 1 or not len(numbers):
        raise InputError(f"{name} must be (n,) with n >= 1, one value an image, found {tuple(numbers.shape)}")
    broken = torch.nonzero(~numbers.isfinite())[:, 0].tolist()
    if broken:
        raise InputError(
            f"{len(broken)} of {len(numbers)} values in {name} are NaN or infinite (first at {broken[0]}); "
            "leave those images out and count them"
        )
    return numbers


def _resampled_means(values: Tensor, samples: int, seed: int) -> Tensor:
    if samples < 1:
        raise InputError(f"samples must be 1 or more, found {samples}")
    generator = torch.Generator().manual_seed(seed)
    rows = max(1, _DRAWN // len(values))
    means = []
    for start in range(0, samples, rows):
        shape = (min(rows, samples - start), len(values))
        means.append(values[torch.randint(len(values), shape, generator=generator)].mean(1))
    return torch.cat(means)


def _interval(means: Tensor, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise InputError(f"level must be in (0, 1), found {level}")
    tail = (1 - level) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=means.dtype)).tolist()
    return low, high
