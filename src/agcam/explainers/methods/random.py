"""A control: noise. An explanation that does not beat it says little."""

from __future__ import annotations

from torch import Tensor

from agcam.explainers.noise import uniform
from agcam.explainers.recording import Recording
from agcam.explainers.registry import register_method


@register_method(
    control=True,
    class_specific=False,
    help="A control: noise. A method that is no better than this explains nothing.",
)
def random(recording: Recording, targets: Tensor, *, seed: int = 0) -> Tensor:
    """Make uniform noise in [0, 1), (B, T, h, w).

    An image, a class and a seed have the same noise on every call, whatever else is in the batch. No random number is
    drawn from torch.
    """
    return uniform(recording.images, targets, recording.grid, seed)
