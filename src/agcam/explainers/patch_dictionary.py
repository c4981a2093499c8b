"""NaFlex: images that come cut into patches, as timm's NaFlex collator makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from agcam.errors import InputError

_KEYS = ("patches", "patch_coord", "patch_valid")


def images_of_patches(batch: Mapping[str, Any]) -> Tensor:
    """Put images together again from the patches that a NaFlex model is given.

    Args:
        batch: "patches" (B, N, P·P·3) or (B, N, P, P, 3), "patch_coord" (B, N, 2) rows and columns, "patch_valid"
            (B, N), which says where there are patches and not padding.

    Returns:
        The images (B, 3, h·P, w·P), without the padding.

    Raises:
        InputError: if something is missing, or the images do not have the same grid.
    """
    missing = [key for key in _KEYS if not isinstance(batch.get(key), Tensor)]
    if missing:
        raise InputError(
            f"images must be a tensor (B, 3, H, W), or NaFlex patches as a dictionary of {', '.join(_KEYS)}; "
            f"{', '.join(missing)} is missing (found {', '.join(map(str, batch)) or 'nothing'})"
        )
    patches, coordinates, valid = (batch[key] for key in _KEYS)
    patches = _square(patches)
    images = [_image(*parts) for parts in zip(patches, coordinates, valid.bool(), strict=True)]
    size = patches.shape[2]
    grids = sorted({(image.shape[1] // size, image.shape[2] // size) for image in images})
    if len(grids) > 1:
        found = ", ".join(f"{h}×{w}" for h, w in grids)
        raise InputError(f"the images have patch grids of {found}; explain images of one grid together")
    return torch.stack(images)


def _square(patches: Tensor) -> Tensor:
    """Return the patches as (B, N, P, P, 3)."""
    if patches.dim() == 3:
        size = round((patches.shape[2] / 3) ** 0.5)
        if size * size * 3 == patches.shape[2]:
            return patches.reshape(*patches.shape[:2], size, size, 3)
    if patches.dim() != 5 or patches.shape[4] != 3 or patches.shape[2] != patches.shape[3]:
        raise InputError(f"NaFlex patches must be (B, N, P·P·3) or (B, N, P, P, 3), found {tuple(patches.shape)}")
    return patches


def _image(patches: Tensor, coordinates: Tensor, valid: Tensor) -> Tensor:
    """Put one image (3, h·P, w·P) together."""
    patches, coordinates = patches[valid], coordinates[valid]
    h, w = (int(most) + 1 for most in coordinates.amax(0)) if len(coordinates) else (0, 0)
    places = coordinates[:, 0] * w + coordinates[:, 1]
    if not torch.equal(places, torch.arange(h * w, device=places.device)):
        raise InputError(
            f"an image has {len(places)} patches that do not fill a grid of {h}×{w} row by row; agcam explains whole "
            "images, of which no patches were dropped"
        )
    size = patches.shape[1]
    return patches.reshape(h, w, size, size, 3).permute(4, 0, 2, 1, 3).reshape(3, h * size, w * size)
