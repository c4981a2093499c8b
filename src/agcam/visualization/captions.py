"""Pictures with words beneath, and the bar that says which colors are hot: from plain arrays and texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from agcam.visualization.figures import fit
from agcam.visualization.overlay import COLORMAP, SIGNED_COLORMAP, side_by_side

GAP = 2
"""Pixels between pictures that stand side by side."""
_SIZE, _LINE, _PAD = 12, 16, 4
_INK, _GRAY = (28, 27, 26), (95, 92, 87)
GOOD, BAD = (27, 110, 60), (163, 32, 44)
"""Colors of verdicts."""
_BAR = (120, 8)


def captioned(
    pictures: Sequence[np.ndarray],
    captions: Sequence[str],
    title: str,
    verdict: tuple[str, tuple[int, int, int]] | None = None,
    lines: int = 2,
) -> np.ndarray:
    """Put pictures of one size side by side, with a caption under each, and a title and a verdict under all.

    What does not fit ends in "…"; the lines of a caption share its room. Pictures of as many `lines` are equally high.

    Args:
        pictures: (H, W, 3) uint8 RGB.
        captions: one for each.
        title: of all.
        verdict: a text and its color, at the right of the title.
        lines: that a caption may take.

    Returns:
        (H + captions, width, 3) uint8 RGB, on white.
    """
    width = pictures[0].shape[1]
    row = side_by_side(list(pictures), GAP)
    sheet = Image.new("RGB", (row.shape[1], row.shape[0] + _PAD + (lines + 1) * _LINE), "white")
    sheet.paste(Image.fromarray(row), (0, 0))
    draw, top = ImageDraw.Draw(sheet), row.shape[0] + _PAD
    kept = row.shape[1]
    if verdict is not None:
        kept -= round(_font().getlength(verdict[0])) + 10
        draw.text((row.shape[1] - 2, top), verdict[0], verdict[1], _font(), anchor="ra")
    _write(draw, (2, top), title, kept, 1, _INK)
    for number, caption in enumerate(captions):
        _write(draw, (number * (width + GAP) + 2, top + _LINE), caption, width - 4, lines, _GRAY)
    return np.asarray(sheet)


def with_color_bar(picture: np.ndarray, signed: bool = False) -> np.ndarray:
    """Put beneath a picture (H, W, 3) the colors of its heatmaps, from coldest to hottest.

    Args:
        picture: uint8 RGB.
        signed: whether the heatmaps have negative values, which speak against the class.

    Returns:
        (H + bar, W, 3) uint8 RGB.
    """
    height, width = picture.shape[:2]
    sheet = Image.new("RGB", (width, height + _LINE + _PAD), "white")
    sheet.paste(Image.fromarray(picture), (0, 0))
    draw, middle = ImageDraw.Draw(sheet), height + (_LINE + _PAD) // 2
    low, high = ("against", "for the class") if signed else ("cold", "hot")
    left = 2 + round(_font().getlength(low)) + 6
    draw.text((2, middle), low, _GRAY, _font(), anchor="lm")
    colors = mpl.colormaps[SIGNED_COLORMAP if signed else COLORMAP](np.linspace(0, 1, _BAR[0]))[:, :3]
    bar = np.broadcast_to((colors * 255).astype(np.uint8), (_BAR[1], _BAR[0], 3))
    sheet.paste(Image.fromarray(np.ascontiguousarray(bar)), (left, middle - _BAR[1] // 2))
    draw.text((left + _BAR[0] + 6, middle), high, _GRAY, _font(), anchor="lm")
    return np.asarray(sheet)


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int, lines: int, color: tuple[int, int, int]
) -> None:
    parts = text.split("\n")
    written = [line for part in parts for line in fit(part, width / 72, _SIZE, max(1, lines // len(parts))).split("\n")]
    for number, line in enumerate(written):
        draw.text((place[0], place[1] + number * _LINE), line, color, _font())


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", _SIZE)
