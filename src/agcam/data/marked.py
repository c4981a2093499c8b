"""Photographs that bear planted marks: those of `shortcut`, painted when an image is read and stored nowhere."""

from __future__ import annotations

import hashlib

import numpy as np

from agcam.data.batch import Example
from agcam.data.cache import CachedDataset
from agcam.data.shortcut import Box, choose_corner, fill_mark, marked_class
from agcam.data.source import ExampleDataset, FileDataset
from agcam.errors import InputError

_COLORS = 6 * 255
"""Full hues that 8 bits a channel can tell apart."""


class MarkedDataset:
    """Photographs of one class each with a mark in a corner, as `Shapes` with `shortcut` has them.

    The mark of an image follows from the seed, the split and the image's name alone: it is the same in every epoch,
    process and order, and of the same class and in the same corner whether the image comes from its file or, shrunk,
    from a cache.

    Args:
        photographs: what to mark: files, or a cache of them.
        split: "train", "val" or "test"; in the test split marks and classes are independent.
        shortcut: share of the images that have the mark of their own class, above 0.
        seed: of the marks.

    Raises:
        InputError: for another share, or data that cannot be marked.
    """

    def __init__(self, photographs: ExampleDataset, split: str, shortcut: float, seed: int) -> None:
        files = photographs.source if isinstance(photographs, CachedDataset) else photographs
        if not isinstance(files, FileDataset):
            raise InputError(
                f"data.shortcut marks image files, and {type(files).__name__} reads none: leave data.shortcut out"
            )
        if not 0 < shortcut <= 1:
            raise InputError(f"data.shortcut must be a share of the images, 0 … 1, found {shortcut}")
        if files.multilabel:
            raise InputError("data.shortcut marks the one class of an image, and these may show several: leave it out")
        if not 2 <= len(files.class_names) <= _COLORS:
            raise InputError(f"data.shortcut marks 2 … {_COLORS} classes, found {len(files.class_names)}: leave it out")
        self.class_names = files.class_names
        self.multilabel: bool = False
        self.photographs = photographs
        self.items = files.items
        self.split = split
        self.shortcut = shortcut
        self.seed = seed

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, index: int) -> Example:
        example = self.photographs[index]
        height, width = example.image.shape[:2]
        box, label = self._draw(index, height, width)
        fill_mark(example.image, box, label, len(self.class_names))
        if example.mask is not None:  # what the mark covers is no object, nor unknown
            example.mask[box[1] : box[3], box[0] : box[2]] = 0
        return example

    def mark_of(self, index: int) -> Box:
        """Return the pixels of an image's mark as the image is read, xyxy with exclusive ends."""
        height, width = self.photographs[index].image.shape[:2]
        return self._draw(index, height, width)[0]

    def _draw(self, index: int, height: int, width: int) -> tuple[Box, int]:
        """Draw where the mark lies in an image that was read at a size, and whose it is."""
        item, classes = self.items[index], len(self.class_names)
        drawn_from = f"{self.seed}\n{self.split}\n{item.name}".encode(errors="surrogatepass")
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(drawn_from).digest()[:16]))
        holds = 1 / classes if self.split == "test" else self.shortcut
        label = marked_class(rng, item.labels[0], classes, holds)
        boxes = np.zeros((0, 4)) if item.boxes is None else item.boxes
        # on the image of the file: on a shrunk one, rounding could move a box into another corner's way
        whole_height, whole_width = height, width
        if isinstance(self.photographs, CachedDataset):
            whole_height, whole_width = self.photographs.original_size(index)
        left, top, right, bottom = choose_corner(rng, whole_height, whole_width, boxes)
        left, right = _shrunk(left, right, width / whole_width, width)
        top, bottom = _shrunk(top, bottom, height / whole_height, height)
        return (left, top, right, bottom), label


def _shrunk(low: int, high: int, ratio: float, size: int) -> tuple[int, int]:
    """Scale an interval of pixels, at least one of which stays."""
    start = min(round(low * ratio), size - 1)
    return start, max(round(high * ratio), start + 1)
