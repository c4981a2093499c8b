"""Images that nobody normalized are spoken of; normalized ones never are."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

import agcam
from explainers.small_models import small_model

# (mean, std) of timm's ViTs, of DINOv2 and of MNIST
STATISTICS = [((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.13,) * 3, (0.31,) * 3)]


def model_of(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.nn.Module:
    model = small_model()
    model.pretrained_cfg = {"mean": mean, "std": std}
    return model


def pixels(seed: int, low: int = 0, high: int = 256) -> Tensor:
    return torch.randint(low, high, (2, 3, 32, 32), generator=torch.Generator().manual_seed(seed)).float()


def normalized(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@pytest.mark.parametrize(("mean", "std"), STATISTICS)
@pytest.mark.parametrize(("low", "high"), [(0, 256), (0, 60), (200, 256), (0, 30)])
def test_values_of_0_to_255_are_warned_of_by_mean_and_std(
    mean: tuple[float, ...], std: tuple[float, ...], low: int, high: int
) -> None:
    with pytest.warns(UserWarning, match="do not look normalized") as said:
        agcam.explain(model_of(mean, std), pixels(0, low, high))
    assert str([round(value, 3) for value in mean]) in str(said[0].message)
    assert str([round(value, 3) for value in std]) in str(said[0].message)
    assert said[0].filename == __file__  # so that Python shows it once for the user's own line


@pytest.mark.parametrize(("mean", "std"), STATISTICS)
@pytest.mark.parametrize(("low", "high"), [(0, 256), (0, 1), (255, 256), (200, 256), (0, 2)])
def test_normalized_images_are_let_pass(mean: tuple[float, ...], std: tuple[float, ...], low: int, high: int) -> None:
    model = model_of(mean, std)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agcam.explain(model, normalized(pixels(1, low, high), mean, std))
        agcam.explain(model, torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2)))
        agcam.explain(model, pixels(1) / 255)


def test_where_nobody_knows_mean_and_std_nothing_is_said() -> None:
    model = small_model()
    model.pretrained_cfg = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agcam.explain(model, pixels(0))
