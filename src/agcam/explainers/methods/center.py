"""A control: an object is often in the middle of its image."""

from __future__ import annotations

import torch
from torch import Tensor

from agcam.explainers.recording import Recording
from agcam.explainers.registry import register_method


@register_method(
    control=True,
    class_specific=False,
    help="A control: always hot in the middle. Objects often are in the middle, so this scores better than noise.",
)
def center(recording: Recording, targets: Tensor) -> Tensor:
    """Draw a centred Gaussian (B, T, h, w) with a standard deviation of a quarter of each side, peak 1."""
    h, w = recording.grid
    y = (torch.arange(h) + 0.5) / h - 0.5
    x = (torch.arange(w) + 0.5) / w - 0.5
    gaussian = torch.exp(-8 * (y[:, None] ** 2 + x[None, :] ** 2))
    return gaussian.to(targets.device).expand(*targets.shape, h, w).clone()
