"""What figures for papers and notebooks share: text that stays in its place, one style, files that are whole.

Matplotlib's objects are used without pyplot, so that nothing is shared with what the caller draws. Names are shown as
they are: a `$` or `_` in them is no formula.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

from agcam.io.atomic import whole_file
from agcam.visualization.overlay import is_signed, overlay, resize_map

FONT = "DejaVu Sans"
"""Ships with matplotlib, so that names are broken into the same lines everywhere."""
GRAY = "0.45"
LABEL, SMALL = 8.0, 7.0
"""Font sizes in points."""
# Okabe and Ito 2008, told apart by color-blind eyes; their yellow is left out, it vanishes on white paper. The others
# are as far from these and from each other as colors are that can be seen on it
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MORE_COLORS = ("#FA0AFD", "#FB0045", "#025BFE", "#87522E", "#7A8F00", "#6B2FA0", "#8A8A8A")
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
_TIGHT: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.06}
# journals want TrueType (42) in a PDF; an SVG names its parts at random unless it is given a salt
_LETTERS: Any = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "agcam"}
# where a label is broken, the best places first; the last resort is anywhere
_JOINTS = (r"(?<=[:,\s])", r"(?<==)", r"(?<=[_/.-])", r"(?<=.)")


class _Outputs:
    """What a figure's own attributes refer to. Its class stays matplotlib's: W&B takes no other."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def savefig(self, fname: Any, **options: Any) -> None:
        """Save as matplotlib does, with letters that editors know as letters."""
        with mpl.rc_context(_LETTERS):
            Figure.savefig(self.figure, fname, **options)

    def png(self) -> bytes:
        """Return what notebooks show, with pyplot or without."""
        shown = io.BytesIO()
        self.savefig(shown, format="png", dpi=100)
        return shown.getvalue()


def new_figure(width: float, height: float, layout: Any = "none") -> Figure:
    """Make a white figure of this size in inches, which notebooks show by themselves."""
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    outputs = _Outputs(figure)
    vars(figure).update(savefig=outputs.savefig, _repr_png_=outputs.png)
    return figure


def enclose(figure: Figure) -> None:
    """Enlarge a figure without layout until all that is drawn stands inside of it, where it stood in inches.

    W&B and TensorBoard take a figure as large as it says it is; what stands outside would be cut off.
    """
    pad = _TIGHT["pad_inches"]
    before = np.array(figure.get_size_inches())
    box = figure.get_tightbbox(figure.canvas.get_renderer())  # type: ignore[attr-defined]  # Agg's canvas has one
    least, most = np.array(box.min), np.array(box.max)
    origin, size = least - pad, most - least + 2 * pad
    figure.set_size_inches(size)
    for axes in figure.axes:
        place = axes.get_position(original=True)
        (left, bottom), (width, height) = (place.min * before - origin) / size, np.array(place.size) * before / size
        axes.set_position((left, bottom, width, height))
    for text in figure.texts:
        x, y = (np.array(text.get_position()) * before - origin) / size
        text.set_position((x, y))


def save(figure: Figure, path: Path) -> None:
    """Write `<path>.png`, `.pdf` and `.svg`; each appears only when whole, and with the same bytes every time."""
    # the dots of a PDF or SVG are those of the photographs in it, which are printed
    for suffix, dpi, dated in (("png", 150, "Software"), ("pdf", 200, "CreationDate"), ("svg", 200, "Date")):
        with whole_file(path.with_name(f"{path.name}.{suffix}")) as part:
            figure.savefig(part, format=suffix, dpi=dpi, metadata={dated: None}, **_TIGHT)


def show(figure: Figure, box: tuple[float, float, float, float], image: np.ndarray) -> Axes:
    """Show a picture (H, W, 3) in a box, in inches from the figure's left and bottom, without ticks and frame."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
    axes.set_axis_off()
    axes.imshow(image)
    return axes


def show_map(
    figure: Figure,
    box: tuple[float, float, float, float],
    image: np.ndarray,
    heatmap: np.ndarray | None,
    limits: tuple[float, float] | None = None,
    contour: float | None = None,
) -> Axes:
    """Show a heatmap over its image; where there is none or it is not finite, say so.

    Args:
        figure: to draw on.
        box: as in `show`.
        image: (H, W, 3) uint8 RGB.
        heatmap: (h, w), any units, or None.
        limits: see `agcam.visualization.overlay.overlay`.
        contour: where, between the limits as 0 and 1, a line is drawn around what is hotter; in a map with negative
            values between zero as 0 and the limit as 1.
    """
    if heatmap is None or not np.isfinite(heatmap).all():
        axes = show(figure, box, np.full_like(image, 240))
        axes.text(0.5, 0.5, "no map", size=SMALL, ha="center", va="center", color=GRAY, transform=axes.transAxes)
        return axes
    axes = show(figure, box, overlay(image, heatmap, limits=limits))
    scaled = resize_map(heatmap, image.shape[:2], limits)
    if contour is not None and is_signed(heatmap, limits):
        contour = 0.5 + contour / 2  # of the positive part
    if contour is not None and scaled.min() < contour < scaled.max():
        for color, width in (("black", 1.8), ("white", 0.8)):  # white on black is seen on any image
            axes.contour(scaled, levels=[contour], colors=color, linewidths=width)
    return axes


def style_axes(axes: Axes, title: str, across: str, up: str) -> None:
    """Set title, axis labels and light grid lines behind the data."""
    axes.set_title(title, fontsize=LABEL + 1, fontweight="bold")
    axes.set_xlabel(across, fontsize=SMALL)
    axes.set_ylabel(up, fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)


def write(figure: Figure, text: str, place: tuple[float, float], size: float, **style: Any) -> None:
    """Write lines of text as they stand; `place` is where the last one stands, in inches from left and bottom.

    Each line is a text of its own: matplotlib aligns several by their ink, so that neighbors with and without
    descenders would not stand on one line.
    """
    width, height = figure.get_size_inches()
    for number, line in enumerate(reversed(text.split("\n"))):
        y = place[1] + 1.2 * size / 72 * number
        figure.text(place[0] / width, y / height, line, size=size, family=FONT, parse_math=False, usetex=False, **style)


def fit(text: str, width: float, size: float, lines: int) -> str:
    """Break `text` into at most `lines` lines of `width` inches at font size `size`; what does not fit ends in "…".

    Lines break where labels are joined: at `:` rather than at `=` rather than at `_`. Characters that the font lacks,
    such as control characters, become U+FFFD.
    """
    font = FontProperties(family=FONT, size=size)
    known = get_font(findfont(font)).get_charmap()

    def fits(line: str) -> bool:
        points, *_ = text_to_path.get_text_width_height_descent(line.rstrip(), font, ismath=False)
        return bool(points <= 72 * width)

    def broken(piece: str, level: int) -> list[str]:
        if fits(piece) or level == len(_JOINTS):
            return [piece]
        found: list[str] = []
        for part in filter(None, re.split(_JOINTS[level], piece)):
            if found and fits(found[-1] + part):
                found[-1] += part
            else:
                found += broken(part, level + 1)
        return found

    shown = "".join(c if c.isprintable() and ord(c) in known else _UNKNOWN for c in " ".join(text.split()))
    found = [line.rstrip() for line in broken(shown, 0)]
    if len(found) > lines:
        last = found[lines - 1]
        while last and not fits(last + "…"):
            last = last[:-1]
        found = [*found[: lines - 1], last + "…"]
    return "\n".join(found)
