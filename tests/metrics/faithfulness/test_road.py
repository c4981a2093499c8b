"""ROAD: imputation solves its own equations, and the curves do what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agcam import InputError
from agcam.metrics import ROAD
from agcam.metrics.faithfulness.imputation import impute, impute_linearly
from agcam.metrics.faithfulness.road import road_hits
from metric_cases import random_heatmaps, random_masks, tiny_vit


def slow_impute(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Replace removed pixels by their neighbours' weighted mean until nothing moves."""
    filled = np.where(removed, 0.0, image)
    for _ in range(400):
        total, weights = np.zeros_like(filled), np.zeros_like(filled)
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                weight = {0: 0, 1: 1 / 6, 2: 1 / 12}[abs(down) + abs(right)]
                shifted = np.pad(filled, 1)[1 + down :, 1 + right :][: filled.shape[0], : filled.shape[1]]
                inside = np.pad(np.ones_like(filled), 1)[1 + down :, 1 + right :][: filled.shape[0], : filled.shape[1]]
                total += weight * shifted
                weights += weight * inside
        filled = np.where(removed, total / weights, image)
    return filled


def test_imputation_agrees_with_iterating() -> None:
    image = np.random.default_rng(0).normal(size=(2, 8, 9))
    removed = random_masks(1, size=(8, 9))[0].numpy()
    assert removed.any(0).all() or removed[0].any()  # holes reach the border
    found = impute(image, removed)
    for channel in range(2):
        np.testing.assert_allclose(found[channel], slow_impute(image[channel], removed), atol=1e-6)
    np.testing.assert_array_equal(found[:, ~removed], image[:, ~removed])


def test_imputation_by_hand() -> None:
    image = np.zeros((1, 3, 3))
    image[0, 0, 1] = 6  # above the hole: weight 1/6
    image[0, 0, 0] = 12  # diagonal: weight 1/12
    removed = np.zeros((3, 3), dtype=bool)
    removed[1, 1] = True
    assert impute(image, removed)[0, 1, 1] == pytest.approx(2)


def test_removed_values_are_not_looked_at() -> None:
    image = np.random.default_rng(0).normal(size=(3, 12, 14))
    removed = random_masks(1, size=(12, 14))[0].numpy()
    other = np.where(removed, 99.0, image)
    np.testing.assert_array_equal(impute(image, removed), impute(other, removed))


def test_noise_is_the_same_in_any_batch_and_only_on_removed_pixels() -> None:
    images, removed = torch.randn(3, 3, 12, 14), random_masks(3, size=(12, 14))
    fill, plain = impute_linearly(images, noise=0.1), impute_linearly(images, noise=0)
    together = fill(torch.arange(3), removed)
    torch.testing.assert_close(fill(torch.tensor([2]), removed[2:]), together[2:], rtol=0, atol=0)
    noise = together - plain(torch.arange(3), removed)
    assert not noise.masked_select(~removed[:, None]).any()
    assert float(noise.masked_select(removed[:, None]).std()) == pytest.approx(0.1, rel=0.15)


def test_curves_count_first_choices() -> None:
    model, images, heatmaps = tiny_vit(), torch.randn(4, 3, 32, 32), random_heatmaps(4, grid=(4, 4))
    targets = model(images).argmax(1)
    lerf, morf = road_hits(model, images, heatmaps, targets, fractions=(0.001, 0.3, 0.6))
    assert lerf[0].all()  # one pixel of 1024
    assert morf[0].all()
    metric = ROAD(model, fractions=(0.001, 0.3, 0.6))
    metric.update(images, heatmaps, targets)
    found = metric.compute()
    assert found["lerf"].tolist() == pytest.approx(lerf.double().mean(1).tolist())
    assert float(found["road"]) == pytest.approx(float(lerf.double().mean() - morf.double().mean()))


def test_nothing_left_to_impute_from_is_refused() -> None:
    with pytest.raises(InputError, match="all pixels are removed"):
        impute(np.zeros((3, 4, 4)), np.ones((4, 4), dtype=bool))
    with pytest.raises(InputError, match=r"fractions must be in \(0, 1\).*\[0\.5, 1\.0\]"):
        ROAD(tiny_vit(), fractions=(0.5, 1.0))
