"""Read images; a file that is no image gets one clear line."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import SEEK_END
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from agcam.errors import DataError, brief

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".gif", ".bmp"),
    *(".dib", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
}
MAX_PIXELS = 100_000_000
"""Larger images are refused. One of this size takes 0.7 to 1.2 GB while it is read, by its mode and orientation."""
_BAND = 512
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "AVIF", "TIFF", "PPM")
# by content; others would reach Ghostscript (EPS)
_TURNS = {  # EXIF orientation: swap the axes, then mirror left and right, then top and bottom
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


class ImageHeader(NamedTuple):
    """Size of an image as it lies on disk, and the EXIF orientation that turns it upright."""

    width: int
    height: int
    orientation: int


def read_image(path: Path | str, content: bytes | None = None) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB, turned upright by its EXIF orientation; of an animation, the first frame.

    Pixels of more than 8 bits are divided by 256 if any is above 255.

    Args:
        path: the file; where `content` is given, what errors call it.
        content: the file's bytes, where they do not lie on disk.

    Raises:
        DataError: if the file is missing, empty, truncated, larger than `MAX_PIXELS` or no image.
    """
    with _open(path, "decoded", content) as image:
        return upright_pixels(image)


def upright_pixels(image: Image.Image) -> np.ndarray:
    """Decode an open image as `read_image` does; raises whatever its decoder does."""
    image.load()
    orientation = _orientation(image)
    if image.mode == "F" or image.mode.startswith("I"):
        wide = np.nan_to_num(np.array(image, dtype=np.float32), copy=False)
        wide /= 256 if wide.max() > 255 else 1
        pixels = wide.clip(0, 255, out=wide).astype(np.uint8)[..., None].repeat(3, -1)
    else:
        pixels = _copied(image if image.mode == "RGB" else image.convert("RGB"))
    return turn_upright(pixels, orientation)


def _copied(image: Image.Image) -> np.ndarray:
    """Copy the pixels of an RGB image band by band; Pillow would hold them three times to hand them out at once."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _BAND):
        bottom = min(top + _BAND, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels (H, W, …) as they lie on disk by the EXIF orientation of their image."""
    swap, left_right, top_bottom = _TURNS[orientation]
    turned = pixels.swapaxes(0, 1) if swap else pixels
    turned = turned[:, ::-1] if left_right else turned
    return np.ascontiguousarray(turned[::-1] if top_bottom else turned)


def turn_boxes(boxes: np.ndarray, header: ImageHeader) -> np.ndarray:
    """Move boxes (n, 4) xyxy from pixels of the image as it lies on disk to those of the upright image."""
    swap, left_right, top_bottom = _TURNS[header.orientation]
    turned = boxes[:, [1, 0, 3, 2]] if swap else boxes.copy()
    width, height = (header.height, header.width) if swap else (header.width, header.height)
    if left_right:
        turned[:, [0, 2]] = width - turned[:, [2, 0]]
    if top_bottom:
        turned[:, [1, 3]] = height - turned[:, [3, 1]]
    return turned


def read_mask(path: Path) -> np.ndarray:
    """Read a palette or grayscale image as its raw indices (H, W) uint8, as they lie on disk."""
    with _open(path, "decoded") as image:
        indices, mode = np.array(image), image.mode
    if mode == "LA":
        indices = indices[..., 0]
    _refuse_mode(indices.ndim == 2 and indices.dtype == np.uint8, mode, path)
    return indices


def read_colors(path: Path) -> np.ndarray:
    """Read an image as the colors of its pixels as they lie on disk, (H, W) int32 of 0xRRGGBB."""
    with _open(path, "decoded") as image:
        pixels = np.array(image.convert("RGB"), dtype=np.int32)
    return pixels @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)


def check_mask_mode(path: Path) -> None:
    """Check, without decoding it, that `read_mask` can read a file.

    Raises:
        DataError: if its pixels are not indices.
    """
    with _open(path, "looked at") as image:
        _refuse_mode(image.mode in ("L", "LA", "P"), image.mode, path)


def _refuse_mode(indices: bool, mode: str, path: Path) -> None:
    if not indices:
        raise DataError(
            f"{path}: a mask must be a palette or grayscale image of 8 bits, found mode {mode}; data in VOC format may "
            "give colors their classes in a labelmap.txt, or leave masks out (--data.masks false)"
        )


def check_image(path: Path) -> ImageHeader:
    """Check an image, without decoding it where its format allows, and return its header.

    A JPEG without end marker is decoded, because it may be truncated or just unusual; so are rare formats.

    Raises:
        DataError: as `read_image`.
    """
    with _open(path, "looked at") as image:
        kind = image.format
        width, height = (image.tag_v2[256], image.tag_v2[257]) if isinstance(image, TiffImageFile) else image.size
        header = ImageHeader(width, height, _orientation(image))
    if kind == "PNG":
        with _open(path, "verified") as image:  # verify() wants a file that nothing was read from yet
            image.verify()
    elif not _is_whole(path, kind or ""):
        read_image(path)
    return header


def _is_whole(path: Path, kind: str) -> bool:
    """Return whether the start and end of a file show that it is not truncated."""
    with path.open("rb") as file:
        head, size = file.read(8), file.seek(0, SEEK_END)
        file.seek(max(0, size - 4096))
        tail = file.read()
    return (kind in ("JPEG", "MPO") and b"\xff\xd9" in tail) or (
        kind == "WEBP" and size >= int.from_bytes(head[4:], "little") + 8
    )


def _orientation(image: Image.Image) -> int:
    found = image.getexif().get(0x0112, 1)
    return found if found in _TURNS else 1


@contextmanager
def _open(path: Path | str, purpose: str, content: bytes | None = None) -> Iterator[Image.Image]:
    """Open an image; turn any error within the block into a `DataError` that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is stricter
            with Image.open(path if content is None else io.BytesIO(content), formats=_FORMATS) as image:
                _refuse_large(image, path)
                yield image
    except FileNotFoundError:
        raise DataError(f"{path}: no such image") from None
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path}: too many pixels ({brief(error)}); the limit is {MAX_PIXELS:,}; reduce the image"
        ) from error
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever a broken file makes them stumble over
        size = Path(path).stat().st_size if content is None else len(content)
        empty = isinstance(error, UnidentifiedImageError) and not size
        what = "the file is empty" if empty else f"not a readable image, it cannot be {purpose} ({brief(error)})"
        raise DataError(f"{path}: {what}; expected a whole JPEG or PNG") from error


def _refuse_large(image: Image.Image, path: Path | str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{path}: {image.width}×{image.height} pixels, the limit is {MAX_PIXELS:,}; reduce the image")
