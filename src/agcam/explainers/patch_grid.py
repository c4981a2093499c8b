"""From columns of attention matrices to the patch grid."""

from __future__ import annotations

from torch import Tensor

from agcam.explainers.recorder import Recording
from agcam.explainers.self_check import mismatch


def patch_columns(recording: Recording, columns: Tensor) -> Tensor:
    """Leave out the columns (…, N) of the tokens before the patches: (…, h·w).

    Raises:
        ModelError: if there are not as many columns as tokens.
    """
    (h, w), prefix, found = recording.grid, recording.parts.num_prefix_tokens, columns.shape[-1]
    if found != prefix + h * w:
        what = f"its attention has {found} columns, not {prefix} and a patch grid of {h}×{w}"
        if found > prefix + h * w:
            what += (
                "; if tokens were added before the patches, as prompt tuning does, set the ViT's "
                f"num_prefix_tokens = {found - h * w}"
            )
        raise mismatch(recording, what)
    return columns[..., prefix:]


def on_patches(recording: Recording, columns: Tensor) -> Tensor:
    """Lay the columns (…, N) of the patches out on their grid: (…, h, w) float32.

    Raises:
        ModelError: if there are not as many columns as tokens.
    """
    return patch_columns(recording, columns).reshape(*columns.shape[:-1], *recording.grid).float()
