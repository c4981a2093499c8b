"""A control: noise. An explanation that does not beat it says little."""

from __future__ import annotations

import torch
from torch import Tensor

from agcam.explainers.recorder import Recording
from agcam.explainers.registry import register_method


@register_method(
    control=True,
    class_specific=False,
    help="A control: noise. A method that is no better than this explains nothing.",
)
def random(recording: Recording, targets: Tensor, *, seed: int = 0) -> Tensor:
    """Draw uniform noise in [0, 1), (B, T, h, w): the same on every call with a seed, the global RNG untouched."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(*targets.shape, *recording.grid, generator=generator)
    return noise.to(targets.device)
