"""Sources of examples: what a data set is before anything is transformed, batched or shuffled."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from agcam.data.batch import IGNORE, Example, Sample
from agcam.data.images import check_image, check_mask_mode, read_image, turn_boxes, turn_upright
from agcam.data.transforms import Transform
from agcam.errors import DataError

log = logging.getLogger(__name__)
OnError = Literal["raise", "skip"]


class Source(Protocol):
    """A sequence of examples with named classes."""

    class_names: list[str]
    multilabel: bool

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


@dataclass(frozen=True)
class Item:
    """Where the files of one example lie. Boxes (n, 4) xyxy and mask in pixels of the image as it lies on disk.

    So count VOC, CUB and ImageNet, made for MATLAB, which reads pixels as they lie. Where EXIF turns an image,
    `FileSource` turns boxes and mask along.
    """

    path: Path
    name: str
    labels: tuple[int, ...]
    boxes: np.ndarray | None = None
    box_labels: np.ndarray | None = None
    mask: Path | None = None
    origin: Path | None = None
    """The file that the boxes come from, for messages."""
    fault: str | None = None
    """What is wrong with the example, if its annotation could not be read."""
    orientation: int = 1
    """EXIF orientation of the image. `FileSource` sets it, and its items have boxes in pixels of the image upright."""
    state: tuple[int, ...] = ()
    """Bytes and time of image and mask when `FileSource` looked at them."""


class FileSource:
    """Examples read from image files. Every file is looked at once, here, so that a bad one stops no training.

    A file that changes after that is a `DataError` when it is read: boxes, labels and scores would be another image's.

    Args:
        items: the files.
        class_names: names by class index.
        multilabel: whether an image may show several classes.
        read_mask: reads an item's mask as class index + 1, 0 = background, 255 = ignore.
        on_error: "raise" at the first bad image or box, or "skip" it and say so.

    Raises:
        DataError: naming the first bad file, or an empty data set.
    """

    def __init__(
        self,
        items: Sequence[Item],
        class_names: list[str],
        multilabel: bool,
        read_mask: Callable[[Item], np.ndarray] | None = None,
        on_error: OnError = "raise",
    ) -> None:
        self.class_names = class_names
        self.multilabel = multilabel
        self._read_mask = read_mask
        self.items: list[Item] = []
        skipped: list[str] = []
        for item in items:
            try:
                checked, faults = _check(item, class_names)
                if item.mask is not None and read_mask is not None:
                    check_mask_mode(item.mask)
            except DataError as error:
                checked, faults = None, [str(error)]
            if faults and on_error == "raise":
                raise DataError(f"{faults[0]}. Mend the file, or leave out what is bad with --data.on_error skip")
            skipped += faults
            if checked is not None:
                self.items.append(checked)
        if skipped:
            rest = f" … and {len(skipped) - 5} more" if len(skipped) > 5 else ""
            log.warning("left out %d bad files or boxes: %s%s", len(skipped), "; ".join(skipped[:5]), rest)
        if not self.items:
            where = f"{items[0].path.parent}: " if items else ""
            raise DataError(f"{where}no usable image among {len(items)}; expected at least one")
        if twice := [path for path, times in Counter(item.path for item in self.items).items() if times > 1]:
            log.warning("%d images are listed more than once, and count so, such as %s", len(twice), twice[0])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Example:
        item = self.items[index]
        image = read_image(item.path)
        if (state := _state(item)) != item.state:
            changed = item.path if state[:2] != item.state[:2] else item.mask
            raise DataError(f"{changed}: has changed since the run began; put it back, or begin anew")
        mask = None
        if item.mask is not None and self._read_mask is not None:
            mask = turn_upright(self._read_mask(item), item.orientation)
            if mask.shape != image.shape[:2]:
                raise DataError(
                    f"{item.mask}: the mask is {mask.shape[1]}×{mask.shape[0]}, its image {item.path.name} is "
                    f"{image.shape[1]}×{image.shape[0]}; they must be of one size"
                )
            known = mask[mask != IGNORE]
            if known.size and int(known.max()) > len(self.class_names):
                raise DataError(
                    f"{item.mask}: mask value {known.max()}, expected 0 … {len(self.class_names)} or {IGNORE}"
                )
        return Example(image, item.labels, item.boxes, item.box_labels, mask, item.name)


def warn_of_shared(train: Source, val: Source) -> None:
    """Say so if images are trained on and validated on as well: the same files; equal ones elsewhere go unnoticed."""
    own, others = (
        [i.path for i in getattr(getattr(s, "source", s), "items", ())] for s in (train, val)
    )  # or a cache's
    if shared := sorted(set(own) & set(others)):
        log.warning(
            "%d of %d validation images are training images, too, such as %s: scores will flatter",
            len(shared),
            len(val),
            shared[0],
        )


def _check(item: Item, class_names: list[str]) -> tuple[Item, list[str]]:
    """The item with its boxes clipped to the image and the bad ones left out, and a line for each bad one."""
    if item.fault is not None:
        raise DataError(item.fault)
    facts = check_image(item.path)
    width, height, orientation = facts
    item = replace(item, orientation=orientation, state=_state(item))
    if item.mask is not None and (size := check_image(item.mask))[:2] != (width, height):
        raise DataError(
            f"{item.mask}: the mask is {size[0]}×{size[1]}, its image {item.path.name} is {width}×{height}; "
            "they must be of one size"
        )
    if item.boxes is None or item.box_labels is None:
        return item, []
    limits = np.array([width, height, width, height], dtype=np.float32)
    boxes = np.clip(item.boxes, 0, limits).astype(np.float32)
    good = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & np.isfinite(item.boxes).all(1)
    faults = [
        f"{item.origin or item.path}: box {tuple(round(float(v), 1) for v in item.boxes[i])} of "
        f"{class_names[item.box_labels[i]]!r} is empty or outside its image {item.name} of {width}×{height} pixels; "
        "expected xmin < xmax and ymin < ymax within it"
        for i in np.flatnonzero(~good)
    ]
    return replace(item, boxes=turn_boxes(boxes[good], facts), box_labels=item.box_labels[good]), faults


def _state(item: Item) -> tuple[int, ...]:
    found: list[int] = []
    for path in filter(None, (item.path, item.mask)):
        try:
            stat = path.stat()
        except FileNotFoundError:
            raise DataError(f"{path}: no such image") from None
        found += (stat.st_size, stat.st_mtime_ns)
    return tuple(found)


class TransformedDataset(Dataset[Sample]):
    """A source seen through a transform."""

    def __init__(self, source: Source, transform: Transform) -> None:
        self.source = source
        self.transform = transform

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        example = self.source[index]
        return self.transform(example, self._label(example), index)

    def _label(self, example: Example) -> Tensor:
        if not self.source.multilabel:
            return torch.tensor(example.labels[0])
        label = torch.zeros(len(self.source.class_names))
        label[list(example.labels)] = 1.0
        return label
