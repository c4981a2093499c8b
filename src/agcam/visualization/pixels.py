"""Images as people see them: from what entered a model to 8-bit RGB."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from agcam.errors import InputError


def to_pixels(
    images: Tensor | Sequence[np.ndarray | Image.Image],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> list[np.ndarray]:
    """Turn a normalised batch (B, 3, H, W), or a list of pictures, into (H, W, 3) uint8 RGB arrays.

    Args:
        images: the batch or the pictures.
        mean: per channel, by which the batch was normalised; None where nobody knows.
        std: per channel.

    Raises:
        InputError: for images of another shape or type.
    """
    if not isinstance(images, Tensor):
        return [_checked(np.asarray(i.convert("RGB") if isinstance(i, Image.Image) else i)) for i in images]
    if images.dim() != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise InputError(
            f"images must be the tensor (B, 3, H, W) that was explained, or a list of (H, W, 3) uint8 arrays, found "
            f"{tuple(images.shape)} {images.dtype}"
        )
    shown = images.detach().float().cpu()
    if mean is not None and std is not None:
        shown = shown * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
    else:  # as bright as they can be
        low, high = shown.amin((1, 2, 3), keepdim=True), shown.amax((1, 2, 3), keepdim=True)
        shown = (shown - low) / (high - low).clamp(min=1e-12)
    return list(shown.mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())


def _checked(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"an image must be (H, W, 3) uint8 RGB, found {image.shape} {image.dtype}")
    return image
