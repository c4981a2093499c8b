"""Read photographs for a model in batches, ahead of it; of each only a reduced picture is kept for drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from agcam.data.input_config import InputConfig
from agcam.data.preprocess import Preprocess
from agcam.data.read_ahead import read_ahead
from agcam.errors import DataError
from agcam.io.images import read_image


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph as a model takes it.

    Attributes:
        path: of its file.
        image: (3, S, S) float, as the model expects it.
        picture: (H, W, 3) uint8 RGB, upright, reduced for drawing; None if not asked for.
        size: width and height of the upright photograph in pixels.
    """

    path: Path
    image: Tensor
    picture: np.ndarray | None
    size: tuple[int, int]


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read, and why, in one line."""

    path: Path
    error: str


class PhotographMaker:
    """Makes a `Photograph` of a decoded image; threads may share one.

    What the model gets is made of the whole photograph, as in training; a reduced decoding of JPEG would change it.

    Args:
        config: how images enter the model.
        max_side: longest side of the pictures that are kept for drawing; None keeps none.
    """

    def __init__(self, config: InputConfig, max_side: int | None = None) -> None:
        self._prepare, self._max_side = Preprocess(config), max_side

    def __call__(self, path: Path, image: np.ndarray) -> Photograph:
        """Transform an image (H, W, 3) uint8 RGB."""
        picture = None if self._max_side is None else shrink(image, self._max_side)
        return Photograph(path, self._prepare(image), picture, (image.shape[1], image.shape[0]))


def read_photographs(
    paths: Sequence[Path], config: InputConfig, batch_size: int, max_side: int | None = None, workers: int = 1
) -> Iterator[list[Photograph | Unreadable]]:
    """Yield photographs in batches, in order; `workers` threads read one batch ahead of the one that is in use.

    Args:
        paths: image files.
        config: how images enter the model.
        batch_size: files in a batch.
        max_side: longest side of the pictures that are kept for drawing; None keeps none.
        workers: threads; as many photographs are held whole at a time.
    """
    make = PhotographMaker(config, max_side)

    def read(path: Path) -> Photograph | Unreadable:
        try:
            return make(path, read_image(path))
        except DataError as error:
            return Unreadable(path, str(error))

    starts = range(0, len(paths), batch_size)
    yield from read_ahead((paths[start : start + batch_size] for start in starts), read, workers)


def shrink(image: np.ndarray, longest: int) -> np.ndarray:
    """Reduce an image (H, W, 3) uint8 to at most `longest` pixels a side by averaging over areas; never enlarge it."""
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
