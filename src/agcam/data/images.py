"""Reading images, with one clear line where a file is none."""

from __future__ import annotations

import warnings
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
    image = _open(path)
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("I", "I;16", "I;16B", "F"):
            wide = np.asarray(upright, dtype=np.float64)
            upright = Image.fromarray((wide / (256 if wide.max() > 255 else 1)).clip(0, 255).astype(np.uint8))
        return np.array(upright.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: the image cannot be decoded ({error}); expected a whole JPEG or PNG") from error


def read_mask(path: Path) -> np.ndarray:
    """Read a palette or greyscale image as its raw indices (H, W) uint8."""
    image = _open(path)
    try:
        indices = np.array(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: the mask cannot be decoded ({error}); expected a whole PNG") from error
    if indices.ndim == 3 and indices.shape[2] in (2, 4):  # grey or colour with alpha
        indices = indices[..., 0]
    if indices.ndim != 2 or indices.dtype != np.uint8:
        raise DataError(f"{path}: a mask must be a palette or greyscale image of 8 bits, found mode {image.mode}")
    return indices


def check_image(path: Path) -> tuple[int, int]:
    """Look at an image without decoding it: (width, height) as it will be read.

    A JPEG without its end marker is decoded, to tell a truncated file from an odd one.

    Raises:
        DataError: as `read_image`.
    """
    image = _open(path)
    width, height = image.size
    if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):  # orientations that turn the image by 90°
        width, height = height, width
    if image.format == "JPEG":
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            if b"\xff\xd9" not in file.read():
                read_image(path)
    elif image.format == "PNG":
        try:
            image.verify()
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{path}: the image is damaged ({error}); expected a whole PNG") from error
    return width, height


def _open(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is stricter
            image = Image.open(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such image") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        size = path.stat().st_size if path.is_file() else 0
        what = "the file is empty" if not size else f"not a readable image ({error})"
        raise DataError(f"{path}: {what}; expected a JPEG or PNG") from error
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{path}: {image.width}×{image.height} pixels, the limit is {MAX_PIXELS:,}; reduce the image")
    return image
