"""Methods that nobody registers, for tests that name them."""

from __future__ import annotations

import torch
from torch import Tensor

from agcam.explainers.recording import Recording


def edges(recording: Recording, targets: Tensor, *, width: int = 1) -> Tensor:
    """Hot within `width` patches of the image's edge."""
    maps = torch.ones(*targets.shape, *recording.grid)
    maps[..., width:-width, width:-width] = 0
    return maps


def flat(recording: Recording, targets: Tensor) -> Tensor:
    return torch.ones(*targets.shape, *recording.grid)
