"""AG-CAM over some of the blocks: the paper's ablation of layers, for the command line, which has no slices.

Run: PYTHONPATH=benchmarks agcam benchmark … --methods agcam layers:agcam_of_blocks:start=6
"""

from __future__ import annotations

from torch import Tensor

from agcam.explainers.methods.agcam import agcam
from agcam.explainers.recording import Recording


def agcam_of_blocks(recording: Recording, targets: Tensor, *, start: int = 0, stop: int | None = None) -> Tensor:
    """Make AG-CAM's heatmaps (B, T, h, w) from the blocks `start` to before `stop`, as a slice counts them."""
    return agcam(recording, targets, layers=slice(start, stop))
