"""Drawing: heatmaps over images. Pure functions from arrays to arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from PIL import Image

from agcam.io.atomic import whole_file

COLORMAP = "inferno"
"""Even steps of heat look like even steps of light, to color-blind eyes too."""
SIGNED_COLORMAP = "RdBu_r"
"""Of maps with negative values: red speaks for the class, blue against it, 0 is neutral."""
_COLORS, _SIGNED_COLORS = (
    (mpl.colormaps[name](np.arange(256))[:, :3] * 255).astype(np.float32) for name in (COLORMAP, SIGNED_COLORMAP)
)


def overlay(
    image: np.ndarray, heatmap: np.ndarray, strength: float = 0.65, limits: tuple[float, float] | None = None
) -> np.ndarray:
    """Lay a heatmap over an image at the image's own resolution.

    Without `limits` the map is scaled by its own extremes, whatever its units: overlays then show where, not how much,
    and those of different methods can stand side by side. With them, the same heat is the same color in every overlay
    that is given the same limits. The image beneath is drained of most of its color, so that what glows is the heat.

    In a map with negative values, or with limits below 0, zero is neutral: red speaks for the class, blue against it,
    and where there is nothing the image is seen.

    Args:
        image: (H, W, 3) uint8 RGB.
        heatmap: (h, w) float, any units; NaN is not accepted, a constant map shows as cold everywhere.
        strength: opacity of the hottest place, in [0, 1].
        limits: what counts as coldest and as hottest; what lies beyond looks like them.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    scaled = resize_map(heatmap, (height, width), limits)
    numbers = np.minimum(scaled * 256, 255).astype(np.uint8)
    if is_signed(heatmap, limits):
        colors, opacity = _SIGNED_COLORS[numbers], strength * np.abs(2 * scaled[..., None] - 1)
    else:
        colors, opacity = _COLORS[numbers], strength * (0.35 + 0.65 * scaled[..., None])
    pixels = image.astype(np.float32)
    pixels *= 0.35
    pixels += np.float32(0.65 / 3) * image.sum(axis=2, keepdims=True, dtype=np.float32)
    pixels += (colors - pixels) * opacity
    return np.rint(pixels, out=pixels).astype(np.uint8)


def is_signed(heatmap: np.ndarray, limits: tuple[float, float] | None = None) -> bool:
    """Return whether a map has negative values, so that zero is neutral; with limits, whether they reach below 0."""
    return bool((heatmap.min() if limits is None else limits[0]) < 0)


def resize_map(heatmap: np.ndarray, size: tuple[int, int], limits: tuple[float, float] | None = None) -> np.ndarray:
    """Resize (h, w) to (H, W), bilinear, and scale to [0, 1] by extremes or `limits`; a constant map becomes 0.

    Where `is_signed`, 0 becomes 0.5, and the largest absolute value 0 or 1.
    """
    large = cv2.resize(heatmap.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    low, high = limits or (float(large.min()), float(large.max()))
    if is_signed(heatmap, limits):
        high = max(-low, high)
        low = -high
    return ((large - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(large)


def draw_boxes(image: np.ndarray, boxes: np.ndarray, color: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    """Outline xyxy boxes (n, 4) in `color` on black, on a copy of an RGB image."""
    drawn = image.copy()
    for left, top, right, bottom in np.asarray(boxes, dtype=np.float64).round().astype(int):
        corners = (int(left), int(top)), (int(right) - 1, int(bottom) - 1)
        cv2.rectangle(drawn, *corners, (0, 0, 0), 3)
        cv2.rectangle(drawn, *corners, color, 1)
    return drawn


def draw_outlines(image: np.ndarray, mask: np.ndarray, color: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    """Outline the parts of `mask` (H, W) bool and their holes, as `draw_boxes` does, on a copy of an RGB image."""
    drawn = image.copy()
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for outline, width in ((0, 0, 0), 3), (color, 1):
        cv2.drawContours(drawn, contours, -1, outline, width)
    return drawn


def side_by_side(images: Sequence[np.ndarray], gap: int = 2) -> np.ndarray:
    """Put images of equal height next to each other, with a white gap between them."""
    spacer = np.full((images[0].shape[0], gap, 3), 255, np.uint8)
    row = [part for image in images for part in (image, spacer)]
    return np.concatenate(row[:-1], axis=1)


def contact_sheet(images: Sequence[np.ndarray], columns: int = 4, gap: int = 8) -> np.ndarray:
    """Put images of one height in rows, as wide as `columns` of the narrowest, with white between and around them."""
    height = images[0].shape[0]
    width = columns * (min(image.shape[1] for image in images) + gap) + gap
    rows: list[list[np.ndarray]] = []
    at = width
    for image in images:
        if not rows or at + image.shape[1] + gap > width:
            rows.append([])
            at = gap
        rows[-1].append(image)
        at += image.shape[1] + gap
    widest = max(sum(image.shape[1] + gap for image in row) + gap for row in rows)
    sheet = np.full((len(rows) * (height + gap) + gap, widest, 3), 255, np.uint8)
    for number, row in enumerate(rows):
        left, top = gap, gap + number * (height + gap)
        for image in row:
            sheet[top : top + height, left : left + image.shape[1]] = image
            left += image.shape[1] + gap
    return sheet


def save_png(image: np.ndarray, path: Path) -> None:
    """Write an RGB image; the file appears under its name only when whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        Image.fromarray(image).save(part, format="PNG", compress_level=1)
