"""Bootstrap intervals: coverage, reproducibility, what is refused."""

from __future__ import annotations

import pytest
import torch

from agcam import InputError
from agcam.metrics import bootstrap_interval, paired_bootstrap
from agcam.metrics.bootstrap import _DRAWN, _resampled_means


def test_interval_matches_theory_for_a_mean() -> None:
    values = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    low, high = bootstrap_interval(values, samples=4000)
    error = float(values.std() / 2000**0.5)
    assert low == pytest.approx(float(values.mean()) - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(float(values.mean()) + 1.96 * error, abs=0.15 * error)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    g = torch.Generator().manual_seed(0)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_interval(torch.rand(80, generator=g), samples=300, seed=trial, level=0.8)
        covered += low <= 0.5 <= high
    assert 0.72 < covered / 200 < 0.88


def test_same_seed_same_interval() -> None:
    values = torch.rand(50).tolist()
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_many_values_are_resampled_in_pieces() -> None:
    values = torch.rand(_DRAWN // 3)
    assert len(_resampled_means(values, samples=7, seed=0)) == 7
    low, high = bootstrap_interval(values, samples=7)
    assert low < float(values.double().mean()) + 1e-3
    assert high > float(values.double().mean()) - 1e-3


def test_one_value_and_equal_values_have_no_width() -> None:
    assert bootstrap_interval([0.25]) == (0.25, 0.25)
    assert bootstrap_interval([0.5] * 10) == (0.5, 0.5)


def test_pairing_sees_a_small_constant_gain_that_intervals_alone_hide() -> None:
    b = torch.rand(100, generator=torch.Generator().manual_seed(0))
    a = b + 0.01
    assert bootstrap_interval(a)[0] < bootstrap_interval(b)[1]
    found = paired_bootstrap(a, b)
    assert found.difference == pytest.approx(0.01, abs=1e-6)
    assert found.low == pytest.approx(0.01, abs=1e-6)
    assert found.p_value == pytest.approx(2 / 1001)


def test_no_difference_is_not_significant() -> None:
    same = torch.rand(100)
    assert paired_bootstrap(same, same) == (0, 0, 0, 1)
    g = torch.Generator().manual_seed(1)
    found = paired_bootstrap(torch.rand(100, generator=g), torch.rand(100, generator=g))
    assert found.low < 0 < found.high
    assert found.p_value > 0.05


def test_direction_changes_sign_and_leaves_p() -> None:
    g = torch.Generator().manual_seed(1)
    a, b = torch.rand(60, generator=g), torch.rand(60, generator=g)
    one, other = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert one.difference == pytest.approx(-other.difference)
    assert one.low == pytest.approx(-other.high)
    assert one.p_value == other.p_value


def test_bad_values_are_named() -> None:
    with pytest.raises(InputError, match=r"2 of 4 values in values are NaN or infinite \(first at 1\)"):
        bootstrap_interval([0.0, float("nan"), 1.0, float("inf")])
    with pytest.raises(InputError, match=r"one value an image, found \(0,\)"):
        bootstrap_interval([])
    with pytest.raises(InputError, match=r"found \(2, 3\)"):
        bootstrap_interval(torch.rand(2, 3))
    with pytest.raises(InputError, match="found 3 in a and 2 in b"):
        paired_bootstrap([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(InputError, match=r"level must be in \(0, 1\), found 95"):
        bootstrap_interval([1.0, 2.0], level=95)
    with pytest.raises(InputError, match="samples must be 1 or more, found 0"):
        bootstrap_interval([1.0], samples=0)
