"""Reading images, with one clear line where a file is none."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from agcam.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
MAX_PIXELS = 100_000_000
"""Larger images are refused: a few of them at once would exhaust an ordinary machine's memory."""


def read_image(path: Path) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB, turned upright by its EXIF orientation.

    Raises:
        DataError: if the file is missing, empty, truncated, larger than `MAX_PIXELS` or no image.
    """
    with _open(path, "decoded") as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("I", "I;16", "I;16B", "F"):
            wide = np.asarray(upright, dtype=np.float64)
            upright = Image.fromarray((wide / (256 if wide.max() > 255 else 1)).clip(0, 255).astype(np.uint8))
        return np.array(upright.convert("RGB"))


def read_mask(path: Path) -> np.ndarray:
    """Read a palette or greyscale image as its raw indices (H, W) uint8."""
    with _open(path, "decoded") as image:
        indices, mode = np.array(image), image.mode
    if mode == "LA":
        indices = indices[..., 0]
    if indices.ndim != 2 or indices.dtype != np.uint8:
        raise DataError(f"{path}: a mask must be a palette or greyscale image of 8 bits, found mode {mode}")
    return indices


def check_image(path: Path) -> tuple[int, int]:
    """Look at an image without decoding it: (width, height) as it will be read.

    A JPEG without its end marker is decoded, to tell a truncated file from an odd one.

    Raises:
        DataError: as `read_image`.
    """
    with _open(path, "looked at") as image:
        (width, height), kind = image.size, image.format
        if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):  # orientations that turn the image by 90°
            width, height = height, width
    if kind == "PNG":
        with _open(path, "verified") as image:  # verify() wants a file that nothing was read from yet
            image.verify()
    elif kind == "JPEG":
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            ends = b"\xff\xd9" in file.read()
        if not ends:
            read_image(path)
    return width, height


@contextmanager
def _open(path: Path, purpose: str) -> Iterator[Image.Image]:
    """The opened image; whatever goes wrong inside is a `DataError` that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is stricter
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(
                        f"{path}: {image.width}×{image.height} pixels, the limit is {MAX_PIXELS:,}; reduce the image"
                    )
                yield image
    except FileNotFoundError:
        raise DataError(f"{path}: no such image") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: too many pixels ({error}); the limit is {MAX_PIXELS:,}; reduce the image") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        empty = path.is_file() and not path.stat().st_size
        what = "the file is empty" if empty else f"not a readable image, it cannot be {purpose} ({error})"
        raise DataError(f"{path}: {what}; expected a whole JPEG or PNG") from error
