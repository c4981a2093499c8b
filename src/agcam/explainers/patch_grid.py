"""From columns of attention matrices to the patch grid."""

from __future__ import annotations

import warnings

from torch import Tensor

from agcam.explainers.recording import Recording
from agcam.explainers.self_check import mismatch


def covered_pixels(recording: Recording, shape: tuple[int, int]) -> tuple[int, int]:
    """Return height and width in pixels, from the upper left one, that a heatmap of a shape (h, w) covers.

    A heatmap as large as the images covers them. Any other covers the patches, which can leave a margin of the images
    or, where the model pads them, reach beyond. What a model resizes before its ViT is measured in the images' pixels.
    """
    size = (int(recording.images.shape[-2]), int(recording.images.shape[-1]))
    patch = recording.parts.embedding.patch
    if patch is None or shape == size:
        return size
    height, width = recording.input_size or size
    covered = recording.grid[0] * patch[0], recording.grid[1] * patch[1]
    return round(covered[0] * size[0] / height), round(covered[1] * size[1] / width)


def warn_of_another_size(recording: Recording, stacklevel: int = 2) -> None:
    """Warn if the model gives its ViT images of another size: whether by resizing or by a crop cannot be seen.

    Args:
        recording: of a forward.
        stacklevel: of `warnings.warn`.
    """
    size = (int(recording.images.shape[-2]), int(recording.images.shape[-1]))
    if recording.input_size not in (None, size):
        (height, width), (h, w) = size, recording.input_size
        warnings.warn(
            f"the model makes {h}×{w} pixels of its images, {height}×{width}, before its ViT; heatmaps are laid over "
            "the whole image, which is right if it resizes them. If it crops them, give it images of that size",
            stacklevel=stacklevel,
        )


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
