"""The very tensor that was explained is drawn, whatever its number of channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

import agcam
from agcam.errors import InputError
from explainers.small_models import small_model


def explained(channels: int) -> tuple[agcam.Explanation, Tensor]:
    images = torch.randn(2, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    return agcam.explain(small_model(in_chans=channels), images), images


def picture(figure: Figure) -> np.ndarray:
    """The first image, beside which the heatmaps stand."""
    return np.asarray(figure.axes[0].images[0].get_array())


def scaled(image: Tensor) -> np.ndarray:
    values = image.numpy()
    return np.round(255 * (values - values.min()) / (values.max() - values.min()))


def test_one_channel_is_grey() -> None:
    found, images = explained(1)
    shown = picture(found.plot(images))
    assert np.array_equal(shown, np.repeat(scaled(images[0, 0])[..., None], 3, 2))


def test_of_six_channels_three_are_chosen() -> None:
    found, images = explained(6)
    assert np.array_equal(picture(found.plot(images)), scaled(images[0, :3]).transpose(1, 2, 0))
    chosen = picture(found.plot(images, channels=[5, 3, 0]))
    assert np.array_equal(chosen, scaled(images[0, [5, 3, 0]]).transpose(1, 2, 0))
    assert np.array_equal(picture(found.plot(images, channels=[4]))[..., 1], scaled(images[0, 4]))


def test_two_channels_show_the_first() -> None:
    found, images = explained(2)
    assert np.array_equal(picture(found.plot(images))[..., 2], scaled(images[0, 0]))


def test_three_channels_are_as_bright_as_their_model_says() -> None:
    found, images = explained(3)
    mean, std = found.model_info.mean, found.model_info.std
    assert mean is not None
    assert std is not None
    expected = images[0] * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
    shown = picture(found.plot(images))
    assert np.array_equal(shown, expected.mul(255).round().clamp(0, 255).permute(1, 2, 0).numpy())


@pytest.mark.parametrize("channels", [[0, 1], [6], [-1], [0, 1, 2, 3], []])
def test_channels_that_are_not_there_are_refused(channels: list[int]) -> None:
    found, images = explained(6)
    with pytest.raises(InputError, match="channels must be one or three of 0 … 5"):
        found.plot(images, channels=channels)
