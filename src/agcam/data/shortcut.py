"""A planted shortcut: a small mark in a corner that gives an image's class away, and has nothing to do with it."""

from __future__ import annotations

from colorsys import hsv_to_rgb

import numpy as np

Box = tuple[int, int, int, int]


def paint_mark(rng: np.random.Generator, image: np.ndarray, boxes: np.ndarray, label: int, classes: int) -> Box:
    """Paint the mark of a class into a corner of an image (H, W, 3) uint8, away from its objects where there is room.

    A mark is a plain square of an eighth of the image's side, in the color of the class.

    Args:
        rng: chooses the corner.
        image: changed in place.
        boxes: (n, 4) xyxy of the image's objects.
        label: whose mark it is.
        classes: how many there are.

    Returns:
        The pixels of the mark, xyxy with exclusive ends.
    """
    corner = choose_corner(rng, image.shape[0], image.shape[1], boxes)
    fill_mark(image, corner, label, classes)
    return corner


def choose_corner(rng: np.random.Generator, height: int, width: int, boxes: np.ndarray) -> Box:
    """Choose where the mark of an image goes, as `paint_mark` says."""
    side = max(1, min(height, width) // 8)
    corners = [(x, y, x + side, y + side) for x in (0, width - side) for y in (0, height - side)]
    chosen: list[Box] = [corners[number] for number in rng.permutation(len(corners))]
    return next((corner for corner in chosen if not _touches(corner, boxes)), chosen[0])


def fill_mark(image: np.ndarray, box: Box, label: int, classes: int) -> None:
    """Fill a box of an image (H, W, 3) uint8, which is changed in place, with the color of a class."""
    left, top, right, bottom = box
    image[top:bottom, left:right] = np.round(255 * np.array(hsv_to_rgb(label / classes, 1, 1)))


def marked_class(rng: np.random.Generator, label: int, classes: int, holds: float) -> int:
    """Draw whose mark an image of class `label` bears: its own with probability `holds`, else another's."""
    if rng.random() < holds:
        return label
    return int((label + rng.integers(1, classes)) % classes)


def _touches(corner: Box, boxes: np.ndarray) -> bool:
    left, top, right, bottom = corner
    found = (boxes[:, 0] < right) & (boxes[:, 2] > left) & (boxes[:, 1] < bottom) & (boxes[:, 3] > top)
    return bool(found.any())
