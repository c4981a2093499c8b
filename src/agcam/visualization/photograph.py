"""Heatmaps over photographs of which a model saw a part: drawn fast, for many files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import matplotlib as mpl
import numpy as np

from agcam.errors import InputError
from agcam.visualization.overlay import COLORMAP, draw_outlines, is_signed, overlay, resize_map

_GREY = 0.65
_COLD = 0.35
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Style:
    """How heat is drawn.

    Attributes:
        colormap: a name of matplotlib's; maps with negative values have a diverging one of their own.
        alpha: opacity of the hottest place, in [0, 1].
        contour: a line around what is hotter than this share of the scale, in (0, 1); None draws none.
    """

    colormap: str = COLORMAP
    alpha: float = 0.65
    contour: float | None = None

    def check(self) -> None:
        """Check the values.

        Raises:
            InputError: if one makes no sense, with what would.
        """
        if self.colormap not in mpl.colormaps:
            some = "inferno, viridis, magma, turbo, jet, gray"
            raise InputError(f"--colormap {self.colormap!r} is none of matplotlib's; some are {some}")
        if not 0 <= self.alpha <= 1:
            raise InputError(f"--alpha must be between 0 and 1, found {self.alpha}")
        if self.contour is not None and not 0 < self.contour < 1:
            raise InputError(f"--contour must lie between 0 and 1, such as 0.5, found {self.contour}")


def draw_heat(picture: np.ndarray, heatmaps: Sequence[np.ndarray], box: Box, style: Style) -> Iterator[np.ndarray]:
    """Lay heatmaps over the part of a picture that a model saw; the rest is drained of color, too, and has no heat.

    As `overlay` draws them, to within a level of 255 where the map has no negative values.

    Args:
        picture: (H, W, 3) uint8 RGB.
        heatmaps: each (h, w) float; it covers the part.
        box: left, top, right and bottom of the part in pixels of the picture.
        style: how.

    Yields:
        (H, W, 3) uint8 RGB for each heatmap.
    """
    left, top, right, bottom = box
    drained = _drain(picture)
    for heatmap in heatmaps:
        drawn = drained.copy()
        drawn[top:bottom, left:right] = _heat(
            picture[top:bottom, left:right], drained[top:bottom, left:right], heatmap, style
        )
        yield drawn


def _heat(part: np.ndarray, drained: np.ndarray, heatmap: np.ndarray, style: Style) -> np.ndarray:
    height, width = part.shape[:2]
    if is_signed(heatmap):
        drawn = overlay(part, heatmap, style.alpha)
    else:
        large = cv2.resize(heatmap.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        low, high, *_ = cv2.minMaxLoc(large)
        scale = 1 / (high - low) if high > low else 0.0
        # rounding half a step lower is what cutting off is; at 0 the sign is dropped
        numbers = cv2.convertScaleAbs(large, alpha=256 * scale, beta=-256 * low * scale - 0.5)
        colors = cv2.applyColorMap(numbers, _colors(style.colormap))
        slope, start = (1 - _COLD) * style.alpha * scale, (_COLD - (1 - _COLD) * low * scale) * style.alpha
        opacity = large * np.float32(slope) + np.float32(start)
        drawn = cv2.blendLinear(colors, drained, opacity, 1 - opacity)
    if style.contour is not None:
        drawn = draw_outlines(drawn, resize_map(heatmap, (height, width)) > style.contour)
    return drawn


def _drain(picture: np.ndarray) -> np.ndarray:
    weights = np.eye(3) * (1 - _GREY) + _GREY / 3
    drained: np.ndarray = cv2.transform(picture, weights)
    return drained


@cache
def _colors(name: str) -> np.ndarray:
    table: np.ndarray = np.rint(mpl.colormaps[name](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.uint8)[:, None]
    return table
