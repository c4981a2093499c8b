"""The control's noise: uniform, other for other images, classes and seeds, the same in any batch."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import kstest
from small_models import random_images, small_model

from agcam import explain
from agcam.explainers.noise import uniform

IMAGES = random_images(batch=6)
CLASSES = torch.arange(4).expand(6, 4)


def test_noise_is_that_of_the_image_and_class_whatever_is_beside_them() -> None:
    together = uniform(IMAGES, CLASSES, (5, 6), 0)
    for image in range(6):
        for label in (3, 0):
            alone = uniform(IMAGES[image : image + 1], torch.tensor([[label]]), (5, 6), 0)
            assert torch.equal(alone[0, 0], together[image, label])
    assert torch.equal(uniform(IMAGES.flip(0), CLASSES, (5, 6), 0), together.flip(0))
    assert torch.equal(uniform(IMAGES.bfloat16(), CLASSES, (5, 6), 0), together)
    assert torch.equal(uniform(IMAGES.mT.contiguous().mT, CLASSES, (5, 6), 0), together)


def test_other_images_classes_and_seeds_have_other_noise() -> None:
    similar = IMAGES[:1].repeat(6, 1, 1, 1)
    similar[torch.arange(6), 0, 0, torch.arange(6)] += 1  # one pixel apart
    drawn = [uniform(images, CLASSES, (5, 6), seed) for images in (IMAGES, similar) for seed in (0, 1, -1, 2**64 - 7)]
    maps = torch.stack(drawn).flatten(0, 2).flatten(1)
    assert len(maps.unique(dim=0)) == len(maps)
    assert torch.corrcoef(maps).fill_diagonal_(0).abs().max() < 0.85  # of 30 cells, among 18,000 pairs


def test_noise_is_uniform() -> None:
    cells = uniform(IMAGES, CLASSES, (50, 60), 0).flatten()
    assert 0 <= cells.min() < cells.max() < 1
    assert kstest(cells.numpy(), "uniform").pvalue > 0.01
    neighbours = torch.corrcoef(torch.stack([cells[1:], cells[:-1]]))[0, 1]
    assert neighbours.abs() < 0.02


@pytest.mark.parametrize("seed", [0, 3])
def test_the_random_control_is_one_for_an_image(seed: int) -> None:
    model = small_model()
    every = explain(model, IMAGES, "all", "random", seed=seed).heatmaps
    one = explain(model, IMAGES[4:5], 2, "random", seed=seed).heatmaps
    assert torch.equal(one[0, 0], every[4, 2])
