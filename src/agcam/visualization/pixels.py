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
    channels: Sequence[int] | None = None,
) -> list[np.ndarray]:
    """Turn a normalised batch (B, C, H, W), or a list of pictures, into (H, W, 3) uint8 RGB arrays.

    Args:
        images: the batch or the pictures.
        mean: per channel, by which the batch was normalised; where nobody knows it, or it is of another number of
            channels, each image is scaled to its own extremes.
        std: per channel.
        channels: one channel of the batch, shown as grey, or the three shown as red, green and blue. If left out, the
            first three, or the first where there are fewer.

    Raises:
        InputError: for images of another shape or type, or channels that they do not have.
    """
    if not isinstance(images, Tensor):
        return [_checked(np.asarray(i.convert("RGB") if isinstance(i, Image.Image) else i)) for i in images]
    if images.dim() != 4 or not images.shape[1] or not images.is_floating_point():
        raise InputError(
            f"images must be the tensor (B, C, H, W) that was explained, or a list of (H, W, 3) uint8 arrays, found "
            f"{tuple(images.shape)} {images.dtype}"
        )
    count = images.shape[1]
    wanted = list(channels) if channels is not None else [0, 1, 2] if count >= 3 else [0]
    if len(wanted) not in (1, 3) or not all(0 <= channel < count for channel in wanted):
        raise InputError(f"channels must be one or three of 0 … {count - 1}, found {channels}")
    shown = images.detach()[:, wanted].float().cpu()
    if mean is not None and std is not None and len(mean) == len(std) == count:
        factor, offset = (torch.tensor([values[c] for c in wanted]).view(-1, 1, 1) for values in (std, mean))
        shown = shown * factor + offset
    else:  # as bright as they can be
        low, high = shown.amin((1, 2, 3), keepdim=True), shown.amax((1, 2, 3), keepdim=True)
        shown = (shown - low) / (high - low).clamp(min=1e-12)
    pixels = shown.mul(255).round().clamp(0, 255).byte().expand(-1, 3, -1, -1)
    return list(pixels.permute(0, 2, 3, 1).contiguous().numpy())


def _checked(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"an image must be (H, W, 3) uint8 RGB, found {image.shape} {image.dtype}")
    return image
