"""Find which image an annotation was drawn on: as it lies on disk, turned upright by EXIF, or before shrinking.

The image size in an annotation shows it. VOC, CUB and ImageNet were made for MATLAB, which reads pixels as
they lie; today's tools draw on the upright image; and many a data set was shrunk after it had been annotated.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agcam.io.images import ImageHeader, turn_boxes

log = logging.getLogger(__name__)
Size = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """The image that an annotation was drawn on.

    Attributes:
        orientation: EXIF orientation by which the annotation turns to lie on the upright image; 1 if it lies there.
        size: width and height of what it was drawn on, before it turns.
        clear: whether that is known; if not, the image as it lies on disk is assumed.
        scaled: whether the image has been shrunk or enlarged since.
    """

    orientation: int
    size: Size
    clear: bool = True
    scaled: bool = False


def find_frame(size: Size | None, header: ImageHeader, scalable: bool = True) -> Frame | None:
    """Find the frame from an annotation's image size; None if that size does not fit the image.

    Args:
        size: width and height that the annotation gives, None where it gives none.
        header: of the image file.
        scalable: whether an image of another size, but the same shape, fits as well.
    """
    stored = (float(header.width), float(header.height))
    upright = upright_size(header)
    turned = header.orientation != 1
    if size is None:
        return Frame(header.orientation, stored, clear=not turned)
    fits: Sequence[bool] = (size == stored, size == upright)
    scaled = not any(fits)
    if scaled and scalable:
        fits = (_same_shape(size, stored), _same_shape(size, upright))
    match fits:
        case (True, True):
            return Frame(header.orientation, size, clear=not turned, scaled=scaled)
        case (True, False):
            return Frame(header.orientation, size, scaled=scaled)
        case (False, True):
            return Frame(1, size, scaled=scaled)
    return None


def place_boxes(boxes: np.ndarray, frame: Frame, header: ImageHeader) -> np.ndarray:
    """Move boxes (n, 4) xyxy from pixels of `frame` to pixels of the upright image."""
    now = (header.width, header.height) if frame.orientation != 1 else upright_size(header)
    if frame.scaled:
        boxes = boxes * np.array([now[0] / frame.size[0], now[1] / frame.size[1]] * 2)
    return turn_boxes(boxes, ImageHeader(header.width, header.height, frame.orientation))


def upright_size(header: ImageHeader) -> Size:
    """Return width and height of the image that `read_image` reads."""
    width, height = float(header.width), float(header.height)
    return (height, width) if header.orientation > 4 else (width, height)


def _same_shape(one: Size, other: Size) -> bool:
    """Return whether a size is the other one scaled, both sides rounded alike to whole pixels."""
    return _scales_to(one, other) or _scales_to(other, one)


def _scales_to(start: Size, end: Size) -> bool:
    for below, above in ((0, 1), (1, 0), (0.5, 0.5)):  # rounded down, up, to the nearest
        least = max((side - below) / before for before, side in zip(start, end, strict=True))
        most = min((side + above) / before for before, side in zip(start, end, strict=True))
        if least < most:
            return True
    return False


def warn_of_frames(found: Sequence[tuple[Path, Frame]]) -> None:
    """Warn of images whose annotations were scaled, and of those whose annotations may be drawn either way."""
    if scaled := [(path, frame) for path, frame in found if frame.scaled]:
        path, frame = scaled[0]
        log.warning(
            "%d images were shrunk or enlarged after they had been annotated; their boxes are scaled along, such as "
            "those of %s (annotated at %g×%g)",
            len(scaled),
            path,
            *frame.size,
        )
    if unclear := [path for path, frame in found if not frame.clear]:
        log.warning(
            "%d images are turned by EXIF, and nothing tells whether their boxes and masks were drawn before or after "
            "that; taken as drawn on the image as it lies on disk, as in VOC, and turned along, such as those of %s. "
            "If they were drawn on the upright image, store it upright (mogrify -auto-orient)",
            len(unclear),
            unclear[0],
        )
