"""Percentile bootstrap of means, of functions of means, and of paired differences (Efron & Tibshirani 1993)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from agcam.errors import InputError

# numbers drawn at once: 32 MiB, whatever the number of values
_DRAWN = 1 << 22

OfMean = Callable[[Tensor], Tensor]
"""A function from mean rows (…, K) to values (…,), such as one column, the maximum of an accuracy curve, a ratio."""


class PairedDifference(NamedTuple):
    """A difference of means, its interval, and how probable a difference this large would be by chance.

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
    """Return the percentile interval of the mean of `values` (n,), one for each image, in their units.

    Args:
        values: (n,), finite, n >= 1.
        samples: how many resamples.
        seed: the same values and seed give the same interval.
        level: in (0, 1), the share of resampled means that the interval holds.

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
    """Compare the mean of `a` with that of `b`, both (n,) over the same images in the same order.

    Each image is drawn together with both its values. The p-value is twice the share of resampled differences on
    the rarer side of zero. The observed difference is counted among them, so that the p-value is 2/(samples + 1) at
    least and never 0. Where it is below 1 - level, the interval excludes zero, up to the resolution of the samples.

    Raises:
        InputError: the lengths differ, or as in `bootstrap_interval`.
    """
    one, other = _checked("a", a), _checked("b", b)
    if len(one) != len(other):
        raise InputError(f"paired values need the same images: found {len(one)} in a and {len(other)} in b")
    difference = one - other
    return _paired(difference.mean().item(), _resampled_means(difference, samples, seed), samples, level)


def bootstrap_of_mean(
    rows: Tensor, of_mean: OfMean, groups: Tensor, samples: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval of a function of the mean row, such as MaxBoxAcc of the mean hits.

    Args:
        rows: (n, K), finite.
        of_mean: from mean rows (…, K) to values (…,).
        groups: (n,) int64; rows of one group (the classes of one image) are drawn together.
        samples: how many resamples.
        seed: the same rows and seed give the same interval.
        level: in (0, 1), the share of resampled values that the interval holds.

    Raises:
        InputError: no rows, NaN or infinite ones, or an argument out of range.
    """
    return bootstrap_of_means(rows, [of_mean], groups, samples, seed, level)[0]


def bootstrap_of_means(
    rows: Tensor,
    of_means: Sequence[OfMean],
    groups: Tensor,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> list[tuple[float, float]]:
    """Return the interval that `bootstrap_of_mean` gives for each of several functions; resample only once."""
    means = _resampled(*_by_group(rows, groups), samples, seed)
    return [_interval(of_mean(means), level) for of_mean in of_means]


def paired_bootstrap_of_mean(
    a: Tensor, b: Tensor, of_mean: OfMean, groups: Tensor, samples: int = 1000, seed: int = 0, level: float = 0.95
) -> PairedDifference:
    """Compare a value of rows `a` (n, K) with that of rows `b` (n, K); arguments as in `bootstrap_of_mean`.

    Groups are resampled with both their rows; the p-value is that of `paired_bootstrap`.

    Raises:
        InputError: the shapes differ, or as in `bootstrap_of_mean`.
    """
    if a.shape != b.shape:
        raise InputError(f"paired rows need the same images: found {tuple(a.shape)} in a and {tuple(b.shape)} in b")
    values, differences = [], []
    for rows in (a, b):
        sums, counts = _by_group(rows, groups)
        values.append(of_mean(sums.sum(0) / counts.sum()).item())
        differences.append(of_mean(_resampled(sums, counts, samples, seed)))
    return _paired(values[0] - values[1], differences[0] - differences[1], samples, level)


def _paired(difference: float, resampled: Tensor, samples: int, level: float) -> PairedDifference:
    tail = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
    return PairedDifference(difference, *_interval(resampled, level), min(1.0, 2 * (tail + 1) / (samples + 1)))


def _by_group(rows: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums (g, K) and the numbers (g, 1) of the rows of each group."""
    if rows.dim() != 2 or not len(rows) or groups.shape != rows.shape[:1]:
        raise InputError(
            f"rows must be (n, K) with n >= 1 and groups (n,), found {tuple(rows.shape)} and {tuple(groups.shape)}"
        )
    values = rows.detach().cpu().double()
    if not bool(values.isfinite().all()):
        raise InputError("rows hold NaN or infinite values; exclude those images and report their number")
    place, counts = torch.unique(groups.cpu(), return_inverse=True, return_counts=True)[1:]
    sums = torch.zeros(len(counts), values.shape[1], dtype=torch.float64).index_add_(0, place, values)
    return sums, counts.double().unsqueeze(1)


def _resampled(sums: Tensor, counts: Tensor, samples: int, seed: int) -> Tensor:
    """Draw groups with replacement; return the mean row of each sample, (samples, K)."""
    if samples < 1:
        raise InputError(f"samples must be 1 or more, found {samples}")
    generator = torch.Generator().manual_seed(seed)
    number, rows = len(sums), max(1, _DRAWN // len(sums))
    means = []
    for start in range(0, samples, rows):
        drawn = torch.randint(number, (min(rows, samples - start), number), generator=generator)
        times = torch.zeros(drawn.shape, dtype=torch.float64).scatter_add_(
            1, drawn, torch.ones(1).double().expand(drawn.shape)
        )
        means.append(times @ sums / (times @ counts))
    return torch.cat(means)


def _checked(name: str, values: Tensor | Sequence[float]) -> Tensor:
    numbers = torch.as_tensor(values).detach().cpu().double()
    if numbers.dim() != 1 or not len(numbers):
        raise InputError(f"{name} must be (n,) with n >= 1, one value an image, found {tuple(numbers.shape)}")
    broken = torch.nonzero(~numbers.isfinite())[:, 0].tolist()
    if broken:
        raise InputError(
            f"{len(broken)} of {len(numbers)} values in {name} are NaN or infinite (first at {broken[0]}); "
            "exclude those images and report their number"
        )
    return numbers


def _resampled_means(values: Tensor, samples: int, seed: int) -> Tensor:
    return _resampled(values.double().unsqueeze(1), torch.ones(len(values), 1, dtype=torch.float64), samples, seed)[
        :, 0
    ]


def _interval(means: Tensor, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise InputError(f"level must be in (0, 1), found {level}")
    tail = (1 - level) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=means.dtype)).tolist()
    return low, high
