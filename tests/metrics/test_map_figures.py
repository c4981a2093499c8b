"""Entropy, drift and reasons against slow versions, and their means over images and processes."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from agcam import InputError
from agcam.metrics import ImageMeans, map_drift, map_entropy, reasons
from agcam.metrics.bootstrap import bootstrap_of_mean
from metric_cases import random_heatmaps, summed


def slow_entropy(heatmap: Tensor) -> float:
    cells = [max(0.0, float(v)) for v in heatmap.flatten()]
    total = sum(cells)
    return -sum(v / total * math.log(v / total) for v in cells if v) / math.log(len(cells))


def test_entropy_is_that_of_a_distribution() -> None:
    maps = random_heatmaps(9) - 0.1  # some cells are below 0
    assert map_entropy(maps).tolist() == pytest.approx([slow_entropy(m) for m in maps])


def test_entropy_of_extremes() -> None:
    peak, flat, low = torch.zeros(4, 5), torch.full((4, 5), 1e-30), torch.full((4, 5), -1.0)
    peak[2, 3] = 7e30
    found = map_entropy(torch.stack([peak, flat, low, torch.zeros(4, 5)]))
    assert found[:2].tolist() == pytest.approx([0, 1])
    assert found[2:].isnan().all()
    assert map_entropy(torch.ones(2, 1, 1)).isnan().all()
    assert map_entropy(torch.zeros(0, 4, 5)).shape == (0,)


@pytest.mark.parametrize("levels", [1000, 3])
def test_drift_is_one_minus_spearman(levels: int) -> None:
    before, after = (random_heatmaps(9, seed).mul(levels).floor() for seed in (0, 1))  # few levels: many ties
    expected = [1 - spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(before, after, strict=True)]
    assert map_drift(before, after).tolist() == pytest.approx(expected)


def test_drift_of_extremes() -> None:
    maps = random_heatmaps(3)
    assert map_drift(maps, maps * 1e-20 + 3e-21).tolist() == pytest.approx([0, 0, 0], abs=1e-12)
    assert map_drift(maps, -maps).tolist() == pytest.approx([2, 2, 2])
    assert map_drift(maps, torch.ones_like(maps)).isnan().all()
    with pytest.raises(InputError, match="one shape"):
        map_drift(maps, maps[:2])
    with pytest.raises(InputError, match="1 of 3 heatmaps"):
        map_drift(maps, torch.where(torch.arange(3)[:, None, None] == 1, float("nan"), maps))


def test_reasons_are_the_two_disagreements() -> None:
    hits, correct = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    wrong_reason, looking_right = reasons(hits, correct)
    assert wrong_reason.tolist() == [False, False, True, False]
    assert looking_right.tolist() == [False, True, False, False]


def test_standard_errors_of_single_rows_are_the_textbook_s() -> None:
    values = torch.rand(50, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    metric = ImageMeans(["a"])
    metric.update(values[:20])
    metric.update(values[20:])
    metric.compute()
    assert metric.standard_errors["a"] == pytest.approx(float(values.std(correction=0)) / 50**0.5)


def test_standard_errors_of_several_rows_of_an_image_are_those_of_a_bootstrap_over_images() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.arange(300).repeat_interleave(torch.arange(300) % 4 + 1)
    values = torch.rand(300, dtype=torch.float64, generator=generator)[images]
    values += 0.1 * torch.rand(len(images), dtype=torch.float64, generator=generator)
    whole, parts, naive = ImageMeans(["a"]), [ImageMeans(["a"]), ImageMeans(["a"])], ImageMeans(["a"])
    whole.update(values[:, None], images)
    for part, chosen in zip(parts, (images < 100, images >= 100), strict=True):
        part.update(values[chosen][:, None], images[chosen])
    naive.update(values[:, None])
    together = summed(*parts)
    for metric in (whole, naive, together):
        metric.compute()
    low, high = bootstrap_of_mean(values[:, None], lambda mean: mean[..., 0], images)
    assert whole.standard_errors["a"] == pytest.approx((high - low) / (2 * 1.96), rel=0.1)
    assert together.standard_errors["a"] == pytest.approx(whole.standard_errors["a"])
    assert naive.standard_errors["a"] < 0.8 * whole.standard_errors["a"]


def test_one_image_has_no_standard_error() -> None:
    metric = ImageMeans(["a"])
    metric.update(torch.rand(3, 1), torch.zeros(3))
    metric.compute()
    assert metric.standard_errors == {}


def test_means_leave_out_what_is_not_known_and_add_up_over_processes() -> None:
    values = torch.rand(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values[torch.arange(8) % 3 == 0, 0] = float("nan")
    values[:, 2] = float("nan")
    whole, first, second = (ImageMeans(["a", "b", "c"]) for _ in range(3))
    whole.update(values)
    first.update(values[:3])
    second.update(values[3:])
    second.update(values[:0])
    for metric in (whole, summed(first, second)):
        found = metric.compute()
        assert found.keys() == {"a", "b", "count"}
        known = values[~values[:, 0].isnan(), 0]
        assert float(found["a"]) == pytest.approx(sum(known.tolist()) / len(known))
        assert float(found["b"]) == pytest.approx(sum(values[:, 1].tolist()) / 8)
        assert int(found["count"]) == len(known) == 5
    with pytest.raises(InputError, match=r"\(B, 3\)"):
        whole.update(values[:, :2])
