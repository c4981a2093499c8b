"""A method: hot at the left edge of the image, whatever the image shows."""

from __future__ import annotations

import torch
from torch import Tensor

import agcam
from agcam.explainers.recording import Recording


@agcam.register_method(control=True, class_specific=False, help="A control: always hot at the left edge.")
def left_edge(recording: Recording, targets: Tensor, *, width: int = 1) -> Tensor:
    """Mark the leftmost `width` columns of patches."""
    maps = torch.zeros(*targets.shape, *recording.grid, device=targets.device)
    maps[..., :width] = 1
    return maps


def right_edge(recording: Recording, targets: Tensor, *, width: int = 1) -> Tensor:
    """Mark the rightmost columns; known to nobody who does not name it."""
    return left_edge(recording, targets, width=width).flip(-1)
