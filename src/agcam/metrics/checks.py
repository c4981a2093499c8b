"""Checks of what metrics are given: each raises `InputError` rather than let a wrong number through."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agcam.errors import InputError

_NAMED = 10


def check_heatmaps(heatmaps: Tensor) -> None:
    """Check that heatmaps are (B, h, w) and finite.

    Raises:
        InputError: if they are not; the message names the rows of broken heatmaps.
    """
    if heatmaps.dim() != 3 or 0 in heatmaps.shape[1:]:
        raise InputError(f"heatmaps must be (B, h, w), found {tuple(heatmaps.shape)}")
    broken = torch.nonzero(~torch.isfinite(heatmaps).flatten(1).all(1))[:, 0].tolist()
    if broken:
        rows = ", ".join(map(str, broken[:_NAMED])) + (", …" if len(broken) > _NAMED else "")
        raise InputError(
            f"{len(broken)} of {len(heatmaps)} heatmaps hold NaN or infinite values (rows {rows} of the batch); "
            "find out why the explanation failed there, or exclude those images and report their number"
        )


def check_masks(heatmaps: Tensor, masks: Tensor, ignore: Tensor | None = None) -> Tensor:
    """Return masks as bool (B, H, W), one for each of the heatmaps (B, h, w).

    Args:
        heatmaps: (B, h, w); only their number matters.
        masks: (B, H, W), bool or numbers that are all 0 or 1.
        ignore: (B, H, W) bool, or None.

    Raises:
        InputError: if shapes do not match, or masks hold other values, such as class ids or 255 for ignored pixels.
    """
    if masks.dim() != 3 or len(masks) != len(heatmaps) or 0 in masks.shape[1:]:
        raise InputError(
            f"masks must be (B, H, W), one for each of the {len(heatmaps)} heatmaps, found {tuple(masks.shape)}"
        )
    if ignore is not None and (ignore.shape != masks.shape or ignore.dtype != torch.bool):
        raise InputError(
            f"ignore must be bool of the masks' shape {tuple(masks.shape)}, found {ignore.dtype} {tuple(ignore.shape)}"
        )
    if masks.dtype == torch.bool:
        return masks
    if not bool(((masks == 0) | (masks == 1)).all()):
        raise InputError(
            f"masks must be true on the object (bool, or 0 and 1), found values from {masks.min().item()} to "
            f"{masks.max().item()}; turn class ids into masks (ids == class_id), and give ignored pixels as `ignore`"
        )
    return masks.bool()


def check_boxes(heatmaps: Tensor, boxes: Sequence[Tensor], image_size: tuple[int, int]) -> list[Tensor]:
    """Return boxes as float64 (n, 4) on the CPU, one entry for each of the heatmaps (B, h, w).

    Raises:
        InputError: if an entry is missing, is not (n, 4), is not finite, or has its corners in the wrong order.
    """
    if len(boxes) != len(heatmaps):
        raise InputError(f"boxes need one entry (n, 4) for each of the {len(heatmaps)} heatmaps, found {len(boxes)}")
    if len(image_size) != 2 or min(image_size) < 1:
        raise InputError(f"image_size must be (H, W) in pixels, found {image_size}")
    checked = [torch.as_tensor(entry).detach().cpu().double() for entry in boxes]
    for row, values in enumerate(checked):
        if values.dim() != 2 or values.shape[1] != 4:
            raise InputError(f"boxes[{row}] must be (n, 4) xyxy in pixels, found {tuple(values.shape)}")
    if not _ordered(
        torch.cat(checked) if checked else torch.zeros(0, 4)
    ):  # all boxes at once: each check costs microseconds
        row = next(row for row, values in enumerate(checked) if not _ordered(values))
        raise InputError(
            f"boxes[{row}] must be finite, left <= right and top <= bottom (xyxy), found {checked[row].tolist()}"
        )
    return checked


def _ordered(boxes: Tensor) -> bool:
    return bool(torch.isfinite(boxes).all() & (boxes[:, :2] <= boxes[:, 2:]).all())


def check_flags(name: str, flags: Tensor, length: int) -> None:
    """Check that `flags` is (B,) bool of the given length.

    Raises:
        InputError: if it is not.
    """
    if flags.dtype != torch.bool or flags.shape != (length,):
        raise InputError(f"{name} must be bool of shape ({length},), found {flags.dtype} {tuple(flags.shape)}")


def check_explained_images(images: Tensor, heatmaps: Tensor, targets: Tensor) -> None:
    """Check that images (B, 3, H, W), heatmaps (B, h, w) and targets (B,) int64 belong together.

    Raises:
        InputError: if their shapes or types do not match, or a heatmap is not finite.
    """
    if images.dim() != 4 or not images.is_floating_point():
        raise InputError(f"images must be (B, 3, H, W) floats, normalized, found {images.dtype} {tuple(images.shape)}")
    check_heatmaps(heatmaps)
    whole = not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
    if targets.dim() != 1 or not whole:
        raise InputError(f"targets must be (B,) class indices, int64, found {targets.dtype} {tuple(targets.shape)}")
    if not len(images) == len(heatmaps) == len(targets):
        raise InputError(
            f"each image needs one heatmap and one target: found {len(images)} images, {len(heatmaps)} heatmaps, "
            f"{len(targets)} targets"
        )
