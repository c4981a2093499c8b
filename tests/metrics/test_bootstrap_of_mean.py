"""Bootstrap of figures made of a mean row: grouping, pairing, and a slow implementation beside it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from agcam import InputError
from agcam.metrics import bootstrap_interval, bootstrap_of_mean, paired_bootstrap, paired_bootstrap_of_mean
from agcam.metrics.bootstrap import _DRAWN

SAMPLES, SEED, LEVEL = 200, 3, 0.9


def first(mean: Tensor) -> Tensor:
    return mean[..., 0]


def best(mean: Tensor) -> Tensor:
    return mean.amax(-1)


def ratio(mean: Tensor) -> Tensor:
    return mean[..., 0] / mean[..., 1]


def random_rows(count: int, width: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(count, width, generator=torch.Generator().manual_seed(seed)) + 0.1


def uneven_groups(count: int, seed: int = 0) -> Tensor:
    """Numbers that are neither sorted nor gapless, one to several rows each."""
    return 7 * torch.randint(count // 2, (count,), generator=torch.Generator().manual_seed(seed)) + 100


def slow_draws(groups: Tensor) -> list[list[int]]:
    """For each resample its row numbers, the rows of every drawn group together."""
    members = [np.flatnonzero(groups.numpy() == group).tolist() for group in sorted(set(groups.tolist()))]
    shape, generator = (SAMPLES, len(members)), torch.Generator().manual_seed(SEED)
    drawn = torch.randint(len(members), shape, generator=generator).tolist()
    return [[row for group in sample for row in members[group]] for sample in drawn]


def slow_figures(rows: Tensor, groups: Tensor, of_mean: Callable[[Tensor], Tensor]) -> np.ndarray:
    values = rows.double().numpy()
    return np.array([float(of_mean(torch.from_numpy(values[drawn].mean(0)))) for drawn in slow_draws(groups)])


def slow_ends(figures: np.ndarray) -> list[float]:
    return np.quantile(figures, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()


@pytest.mark.parametrize("of_mean", [first, best, ratio])
def test_interval_is_that_of_a_slow_implementation(of_mean: Callable[[Tensor], Tensor]) -> None:
    rows, groups = random_rows(40), uneven_groups(40)
    found = bootstrap_of_mean(rows, of_mean, groups, SAMPLES, SEED, LEVEL)
    assert found == pytest.approx(slow_ends(slow_figures(rows, groups, of_mean)), abs=1e-12)


@pytest.mark.parametrize("of_mean", [first, best, ratio])
def test_paired_difference_is_that_of_a_slow_implementation(of_mean: Callable[[Tensor], Tensor]) -> None:
    a, b, groups = random_rows(40), random_rows(40, seed=1), uneven_groups(40)
    found = paired_bootstrap_of_mean(a, b, of_mean, groups, SAMPLES, SEED, LEVEL)
    difference = float(of_mean(a.double().mean(0)) - of_mean(b.double().mean(0)))
    resampled = slow_figures(a, groups, of_mean) - slow_figures(b, groups, of_mean)
    tail = min((resampled <= 0).sum(), (resampled >= 0).sum())
    p_value = min(1.0, 2 * (tail + 1) / (SAMPLES + 1))
    assert found == pytest.approx([difference, *slow_ends(resampled), p_value], abs=1e-12)
    assert 0.01 < p_value < 1


def test_single_rows_of_one_column_are_plain_values() -> None:
    a, b, each = random_rows(50, 1), random_rows(50, 1, seed=1), torch.arange(50)
    assert bootstrap_of_mean(a, first, each) == bootstrap_interval(a[:, 0])
    assert paired_bootstrap_of_mean(a, b, first, each) == pytest.approx(paired_bootstrap(a[:, 0], b[:, 0]), abs=1e-12)


def test_rows_that_repeat_within_a_group_add_no_certainty() -> None:
    values = random_rows(60, 1)
    repeated, groups = values.repeat_interleave(4, 0), torch.arange(60).repeat_interleave(4)
    alone = bootstrap_of_mean(values, first, torch.arange(60))
    assert bootstrap_of_mean(repeated, first, groups) == pytest.approx(alone, abs=1e-12)
    low, high = bootstrap_of_mean(repeated, first, torch.arange(240))
    assert high - low == pytest.approx((alone[1] - alone[0]) / 2, rel=0.15)  # √4 too sure


def test_the_order_of_rows_and_the_names_of_groups_do_not_matter() -> None:
    rows, groups = random_rows(40), uneven_groups(40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(5))
    expected = bootstrap_of_mean(rows, best, groups)
    assert bootstrap_of_mean(rows[order], best, groups[order]) == pytest.approx(expected, abs=1e-12)
    assert bootstrap_of_mean(rows, best, groups * 3 - 1000) == expected


def test_a_constant_gain_is_sure_however_much_images_vary() -> None:
    b, groups = random_rows(40), uneven_groups(40)
    found = paired_bootstrap_of_mean(b + 0.01, b, best, groups)
    assert found == pytest.approx([0.01, 0.01, 0.01, 2 / 1001], abs=1e-6)
    assert paired_bootstrap_of_mean(b, b, best, groups) == (0, 0, 0, 1)


def test_many_groups_are_resampled_in_pieces() -> None:
    rows = torch.rand(_DRAWN // 3, 1)
    low, high = bootstrap_of_mean(rows, first, torch.arange(len(rows)), samples=4)
    assert low < float(rows.double().mean()) + 1e-3
    assert high > float(rows.double().mean()) - 1e-3


def test_bad_rows_are_named() -> None:
    rows, groups = random_rows(4), torch.arange(4)
    with pytest.raises(InputError, match=r"\(n, K\) with n >= 1 and groups \(n,\), found \(4, 3\) and \(3,\)"):
        bootstrap_of_mean(rows, best, groups[:3])
    with pytest.raises(InputError, match=r"found \(4,\) and \(4,\)"):
        bootstrap_of_mean(rows[:, 0], best, groups)
    with pytest.raises(InputError, match=r"found \(0, 3\) and \(0,\)"):
        bootstrap_of_mean(rows[:0], best, groups[:0])
    with pytest.raises(InputError, match="rows hold NaN or infinite values"):
        bootstrap_of_mean(rows / torch.tensor([0.0, 1, 1]), best, groups)
    with pytest.raises(InputError, match=r"found \(4, 3\) in a and \(4, 2\) in b"):
        paired_bootstrap_of_mean(rows, rows[:, :2], best, groups)
    with pytest.raises(InputError, match="samples must be 1 or more, found 0"):
        bootstrap_of_mean(rows, best, groups, samples=0)
    with pytest.raises(InputError, match=r"level must be in \(0, 1\), found 95"):
        paired_bootstrap_of_mean(rows, rows, best, groups, level=95)
