"""Data sets of examples, before anything is transformed, batched or shuffled."""

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
from agcam.data.frames import Frame, Size, find_frame, place_boxes, upright_size, warn_of_frames
from agcam.data.label_map import LabelMap
from agcam.data.transforms import Transform
from agcam.errors import DataError
from agcam.io.images import ImageHeader, check_image, check_mask_mode, read_image, turn_upright

log = logging.getLogger(__name__)
OnError = Literal["raise", "skip"]


class ExampleDataset(Protocol):
    """A sequence of examples with named classes."""

    class_names: list[str]
    multilabel: bool

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


@dataclass(frozen=True)
class Item:
    """The files of one example, and its annotation. Boxes (n, 4) xyxy in pixels of the image that was annotated.

    `size` and the mask's own size show which image that is (see `frames`); without them it is the image as it lies on
    disk. The items of a `FileDataset` have their boxes in pixels of the image upright.
    """

    path: Path
    name: str
    labels: tuple[int, ...]
    boxes: np.ndarray | None = None
    box_labels: np.ndarray | None = None
    mask: Path | None = None
    origin: Path | None = None
    """The file that the boxes come from, for messages."""
    label_map: LabelMap | None = None
    """What the mask's colors or values mean, where they are not class index + 1."""
    fault: str | None = None
    """What is wrong with the example, if its annotation could not be read."""
    size: Size | None = None
    """Width and height of the image that was annotated, where the annotation says so."""
    mask_orientation: int = 1
    """EXIF orientation by which the mask turns to lie on the upright image. `FileDataset` sets it."""
    state: tuple[int, ...] = ()
    """Bytes and time of image and mask when `FileDataset` looked at them."""


class FileDataset:
    """Examples read from image files. Every file is checked here, before training, so that it cannot stop later.

    Reading a file that has changed since raises a `DataError`: its boxes, labels and scores would be another image's.

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
        frames: list[tuple[Path, Frame]] = []
        for item in items:
            try:
                checked, faults, odd_frame = _check(item, class_names)
                by_color = item.label_map is not None and item.label_map.by_color
                if item.mask is not None and read_mask is not None and not by_color:
                    check_mask_mode(item.mask)
            except DataError as error:
                checked, faults, odd_frame = None, [str(error)], None
            if faults and on_error == "raise":
                raise DataError(f"{faults[0]}. Fix the file, or leave out what is bad with --data.on_error skip")
            skipped += faults
            if checked is not None:
                self.items.append(checked)
            if odd_frame is not None:
                frames.append((item.path, odd_frame))
        warn_of_frames(frames)
        if skipped:
            rest = f" … and {len(skipped) - 5} more" if len(skipped) > 5 else ""
            log.warning("left out %d bad files or boxes: %s%s", len(skipped), "; ".join(skipped[:5]), rest)
        if not self.items:
            where = f"{items[0].path.parent}: " if items else ""
            raise DataError(f"{where}no usable image among {len(items)}; expected at least one")
        if twice := [path for path, times in Counter(item.path for item in self.items).items() if times > 1]:
            log.warning(
                "%d images are listed more than once, and count more than once, such as %s", len(twice), twice[0]
            )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Example:
        item = self.items[index]
        image = read_image(item.path)
        if (state := _state(item)) != item.state:
            changed = item.path if state[:2] != item.state[:2] else item.mask
            raise DataError(f"{changed}: has changed since the run started; put it back, or start over")
        mask = None
        if item.mask is not None and self._read_mask is not None:
            mask = turn_upright(self._read_mask(item), item.mask_orientation)
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


def warn_of_shared(train: ExampleDataset, val: ExampleDataset) -> None:
    """Warn if validation images are training images as well: the same files; copies elsewhere go unnoticed."""
    own, others = (
        [i.path for i in getattr(getattr(s, "source", s), "items", ())] for s in (train, val)
    )  # or a cache's
    if shared := sorted(set(own) & set(others)):
        log.warning(
            "%d of %d validation images are training images, too, such as %s: validation scores will be too high",
            len(shared),
            len(val),
            shared[0],
        )


def _check(item: Item, class_names: list[str]) -> tuple[Item, list[str], Frame | None]:
    """Check an item: returns it ready to be read, a line for each bad box left out, its frame if a warning is due."""
    if item.fault is not None:
        raise DataError(item.fault)
    header = check_image(item.path)
    item = replace(item, state=_state(item))
    frames = []
    if item.mask is not None:
        item, frame = _turn_mask(item, item.mask, header)
        frames.append(frame)
    faults: list[str] = []
    if item.boxes is not None and item.box_labels is not None and len(item.boxes):
        item, faults, frame = _place(item, item.boxes, item.box_labels, header, class_names)
        frames.append(frame)
    return item, faults, next((frame for frame in frames[::-1] if frame.scaled or not frame.clear), None)


def _turn_mask(item: Item, mask: Path, header: ImageHeader) -> tuple[Item, Frame]:
    """Find the orientation of an item's mask; returns the item with it."""
    size = check_image(mask)[:2]
    frame = find_frame(size, header, scalable=False)
    if frame is None:
        raise DataError(
            f"{mask}: the mask is {size[0]}×{size[1]}, its image {item.path.name} is {header.width}×{header.height}; "
            "they must be of one size"
        )
    return replace(item, mask_orientation=frame.orientation), frame


def _place(
    item: Item, boxes: np.ndarray, labels: np.ndarray, header: ImageHeader, class_names: list[str]
) -> tuple[Item, list[str], Frame]:
    """Move an item's boxes onto the upright image and clip them to it; bad ones are left out, with a line for each."""
    frame = find_frame(item.size, header)
    if frame is None:
        width, height = item.size or (0, 0)
        raise DataError(
            f"{item.origin or item.path}: it says that its image is {width:g}×{height:g}, and {item.path} is "
            f"{header.width}×{header.height}, of another shape, so where its boxes lie is not known; put the right "
            "image there, or take <size> out of the annotation if it is wrong"
        )
    placed = np.clip(place_boxes(boxes, frame, header), 0, np.array(upright_size(header) * 2)).astype(np.float32)
    good = (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1]) & np.isfinite(boxes).all(1)
    faults = [
        f"{item.origin or item.path}: box {tuple(round(float(v), 1) for v in boxes[i])} of "
        f"{class_names[labels[i]]!r} is empty or outside its image {item.name} of {frame.size[0]:g}×{frame.size[1]:g} "
        "pixels; expected xmin < xmax and ymin < ymax within it"
        for i in np.flatnonzero(~good)
    ]
    return replace(item, boxes=placed[good], box_labels=labels[good]), faults, frame


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
    """An `ExampleDataset` seen through a transform."""

    def __init__(self, source: ExampleDataset, transform: Transform) -> None:
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
