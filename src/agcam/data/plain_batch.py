"""Batches of data that are not agcam's, turned into a `Batch` at the door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DistributedSampler, SequentialSampler

from agcam.data.batch import Batch
from agcam.errors import InputError

_IMAGES = ("image", "images", "pixel_values")
_LABELS = ("label", "labels", "target", "targets")
_EXPECTED = (
    "expected (images, labels), {'image': …, 'label': …} or agcam's Batch; turn yours into one of them by "
    "ExplanationCallback(batch=function)"
)


@dataclass(frozen=True)
class Dealing:
    """How a loader deals the images of a data set out to this process.

    Attributes:
        first: position of its first image.
        step: from one of its images to the next.
        length: of the data set, after which positions start over; None where unknown.
        in_order: whether positions are those in the data set. Else they are those in the loader's own order, which may
            be another one each epoch.
    """

    first: int
    step: int
    length: int | None
    in_order: bool

    def positions(self, start: int, count: int) -> Tensor:
        """Return the positions (count,) int64 of the images that follow the first `start` ones of this process."""
        found = self.first + self.step * torch.arange(start, start + count)
        return found % self.length if self.length else found


def read_dealing(loader: Any, rank: int, world_size: int) -> Dealing:
    """Read from a loader how it deals images out.

    Args:
        loader: a `DataLoader`, or anything else that gives batches; of the latter nothing is known.
        rank: of this process.
        world_size: number of processes.
    """
    batches, length = getattr(loader, "batch_sampler", None), dataset_length(loader)
    sampler = batches.sampler if type(batches) is BatchSampler else None
    if isinstance(sampler, DistributedSampler) and not sampler.shuffle:
        return Dealing(sampler.rank, sampler.num_replicas, length, True)
    if isinstance(sampler, SequentialSampler):  # each process has the whole data set
        return Dealing(0, 1, length, True)
    return Dealing(rank, world_size, None, False)


def dataset_length(loader: Any) -> int | None:
    """Return how many images a loader's data set has; None where it has no length, or there is no data set."""
    dataset: Any = getattr(loader, "dataset", None)
    return len(dataset) if hasattr(dataset, "__len__") else None


def as_batch(found: Any, index: Tensor | None, classes: int) -> Batch:
    """Turn a batch of anybody's into agcam's. Annotations that it lacks are None.

    Args:
        found: a `Batch`; (images, labels) and what may follow them; or a mapping with `image` and `label`.
        index: (B,) int64, positions in the data set; of no use to a `Batch`, which has its own.
        classes: number of logits C. Labels are class indices (B,) or multi-hot (B, C); for C = 1 they are 0 and 1.

    Raises:
        InputError: for a batch or labels of another form, with what was found.
    """
    if isinstance(found, Batch):
        return found
    image, label = _image_and_label(found)
    if not isinstance(image, Tensor) or image.dim() != 4 or not isinstance(label, Tensor) or len(label) != len(image):
        raise InputError(
            f"images must be (B, C, H, W) and labels (B, …), found {_said(image)}, {_said(label)}; {_EXPECTED}"
        )
    positions = torch.arange(len(image)) if index is None else index
    nothing: list[Tensor | None] = [None] * len(image)
    return Batch(
        image=image,
        label=_checked_label(label, classes),
        boxes=nothing,
        box_labels=nothing,
        mask=None,
        index=positions,
        name=[f"image {position}" for position in positions.tolist()],
    )


def batch_length(found: Any) -> int:
    """Return how many images a batch holds, in any form that `as_batch` takes."""
    return len(found) if isinstance(found, Batch) else len(_image_and_label(found)[0])


def _image_and_label(found: Any) -> tuple[Any, Any]:
    if isinstance(found, Mapping):
        image, label = (next((found[name] for name in names if name in found), None) for names in (_IMAGES, _LABELS))
        if image is None or label is None:
            raise InputError(f"a batch has {', '.join(map(str, found))}; {_EXPECTED}")
        return image, label
    if not isinstance(found, Sequence) or isinstance(found, str) or len(found) < 2:
        raise InputError(f"a batch is {_said(found)}; {_EXPECTED}")
    return found[0], found[1]


def _checked_label(label: Tensor, classes: int) -> Tensor:
    """Return (B,) int64 or (B, C) float."""
    if label.dim() == 2 and label.shape[1] == 1 and classes > 1:
        label = label[:, 0]
    if classes == 1 and label.numel() == len(label) and bool(((label == 0) | (label == 1)).all()):
        return label.reshape(-1, 1).float()
    if classes > 1 and label.dim() == 1 and not label.is_floating_point():
        return label.long()
    if classes > 1 and label.dim() == 2 and label.shape[1] == classes:
        return label.float()
    wanted = "0 or 1 (B,)" if classes == 1 else f"class indices (B,) int64 or multi-hot (B, {classes})"
    raise InputError(f"labels are {_said(label)}, the model has {classes} logits; expected {wanted}. {_EXPECTED}")


def _said(value: Any) -> str:
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
