"""Controls: heatmaps that know nothing of the image. An explanation that does not beat them says little."""

from __future__ import annotations

import torch
from torch import Tensor

from agcam.explainers.noise import uniform
from agcam.explainers.tape import Recording


def random(recording: Recording, targets: Tensor, *, seed: int = 0) -> Tensor:
    """Uniform noise in [0, 1), (B, T, h, w).

    An image, a class and a seed have the same noise on every call, whatever else is in the batch. No random number is
    drawn from torch.
    """
    return uniform(recording.images, targets, recording.grid, seed)


def center(recording: Recording, targets: Tensor) -> Tensor:
    """A centred Gaussian (B, T, h, w) with a standard deviation of a quarter of each side, peak 1."""
    h, w = recording.grid
    y = (torch.arange(h) + 0.5) / h - 0.5
    x = (torch.arange(w) + 0.5) / w - 0.5
    gaussian = torch.exp(-8 * (y[:, None] ** 2 + x[None, :] ** 2))
    return gaussian.to(targets.device).expand(*targets.shape, h, w).clone()
