"""The types of an image on its way to the model: `Example` (as read) → `Sample` (transformed) → `Batch`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

IGNORE = 255
"""Mask value of pixels whose class is unknown; every metric excludes them."""


@dataclass(frozen=True)
class Example:
    """An image as read from disk, with what is known of it. Missing annotations are None, not zeros.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: class indices present; exactly one in single-label data.
        boxes: (n, 4) float32 xyxy in pixels, inside the image, right and lower edge exclusive.
        box_labels: (n,) int64 class index of each box.
        mask: (H, W) uint8 or int64, class index + 1, 0 = background, 255 = ignore.
        name: what people call the image; a relative path where it has one.
    """

    image: np.ndarray
    labels: tuple[int, ...]
    boxes: np.ndarray | None
    box_labels: np.ndarray | None
    mask: np.ndarray | None
    name: str


@dataclass(frozen=True)
class Sample:
    """A transformed `Example`: tensors, boxes and mask in pixels of the transformed image."""

    image: Tensor
    label: Tensor
    boxes: Tensor | None
    box_labels: Tensor | None
    mask: Tensor | None
    index: int
    name: str


_RAGGED = ("boxes", "box_labels")


@dataclass(frozen=True)
class Batch:
    """A batch of images with their annotations.

    Attributes:
        image: (B, 3, H, W) float, normalized.
        label: (B,) int64, or (B, C) float multi-hot.
        boxes: for each image (n, 4) float xyxy in pixels of the transformed image, or None if unknown.
        box_labels: for each image (n,) int64, or None.
        mask: (B, H, W) int64, class index + 1, 0 = background, 255 = ignore; None if no image has one. An
            image without mask in a batch with masks is all 255.
        index: (B,) int64, position in the data set.
        name: the images' names.
    """

    image: Tensor
    label: Tensor
    boxes: list[Tensor | None]
    box_labels: list[Tensor | None]
    mask: Tensor | None
    index: Tensor
    name: list[str]

    def __len__(self) -> int:
        return len(self.name)

    def __getstate__(self) -> dict[str, Any]:
        # loader workers send each tensor through a socket of its own, milliseconds apiece; arrays travel inline
        as_arrays = {name: [t if t is None else t.numpy() for t in getattr(self, name)] for name in _RAGGED}
        return vars(self) | as_arrays

    def __setstate__(self, state: dict[str, Any]) -> None:
        as_tensors = {name: [a if a is None else torch.from_numpy(a) for a in state[name]] for name in _RAGGED}
        vars(self).update(state | as_tensors)

    def _map(self, change: Any) -> Self:
        def apply(value: Any) -> Any:
            if isinstance(value, Tensor):
                return change(value)
            return [apply(v) for v in value] if isinstance(value, list) else value

        return replace(self, **{f.name: apply(getattr(self, f.name)) for f in fields(self)})

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Copy the batch to another device."""
        return self._map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Copy the batch to page-locked memory; `DataLoader(pin_memory=True)` calls this."""
        return self._map(lambda t: t.pin_memory())

    def present(self) -> list[Tensor]:
        """Return for each image the class indices in its label."""
        if self.label.dim() == 1:
            return list(self.label.unsqueeze(1))
        return [torch.nonzero(row).flatten() for row in self.label]


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of equal image size into a `Batch`."""
    masks = [s.mask for s in samples]
    mask = None
    if any(m is not None for m in masks):
        unknown = torch.full(samples[0].image.shape[-2:], IGNORE, dtype=torch.int64)
        mask = torch.stack([unknown if m is None else m for m in masks])
    return Batch(
        image=torch.stack([s.image for s in samples]),
        label=torch.stack([s.label for s in samples]),
        boxes=[s.boxes for s in samples],
        box_labels=[s.box_labels for s in samples],
        mask=mask,
        index=torch.tensor([s.index for s in samples]),
        name=[s.name for s in samples],
    )


def join_batches(batches: Sequence[Batch], image: Tensor) -> Batch:
    """Join batches of equal image size; `image` (B, 3, H, W) holds the images of all of them."""

    def mask_of(batch: Batch) -> Tensor:
        unknown = (len(batch), *image.shape[-2:])
        return batch.label.new_full(unknown, IGNORE, dtype=torch.int64) if batch.mask is None else batch.mask

    masked = any(batch.mask is not None for batch in batches)
    return Batch(
        image=image,
        label=torch.cat([batch.label for batch in batches]),
        boxes=[entry for batch in batches for entry in batch.boxes],
        box_labels=[entry for batch in batches for entry in batch.box_labels],
        mask=torch.cat([mask_of(batch) for batch in batches]) if masked else None,
        index=torch.cat([batch.index for batch in batches]),
        name=[name for batch in batches for name in batch.name],
    )


def owned(index: Tensor, rank: int, world_size: int) -> Tensor:
    """Return (B,) bool: whether this process scores each position in `index`.

    Lightning's evaluation sampler deals positions out in turn and repeats the first ones so that each process
    gets equally many. Position i belongs to process i mod world size; all others are repetitions.
    """
    return index % world_size == rank
