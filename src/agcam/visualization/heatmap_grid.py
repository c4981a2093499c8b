"""Heatmaps side by side: images down, methods or classes across, a color bar with units beneath."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from agcam.errors import InputError
from agcam.visualization.figures import GRAY, SMALL, enclose, fit, new_figure, show, show_map, write
from agcam.visualization.overlay import COLORMAP, SIGNED_COLORMAP, is_signed

Scaling = Literal["own", "common"]

_GAP = 0.04
_LINE = 1.2 * SMALL / 72
_BAR = (1.2, 0.07)
_SIGNED_NOTE = "red speaks for the class, blue against it; where neither does the image is seen"
_NOTES = {
    "own": "each map scaled to its own extremes: where, not how much",
    "common": "one scale for all maps, in {}: the same color is the same heat",
}


def heatmap_grid(
    images: Sequence[np.ndarray],
    maps: Mapping[str, Iterable[np.ndarray | None]],
    titles: Sequence[str] = (),
    captions: Mapping[str, Sequence[str]] | None = None,
    scaling: Scaling = "own",
    units: str = "the method's own units",
    contour: float | None = None,
    controls: Collection[str] = (),
    cell: float = 0.9,
    note: str = "",
) -> Figure | None:
    """Draw images down, methods or classes across, each heatmap over its image at the image's own resolution.

    Args:
        images: n images (H, W, 3) uint8 RGB, sizes may differ.
        maps: by the label of a column, n heatmaps (h, w). None and maps that are not finite are shown as missing;
            columns that have no other are left out.
        titles: names of the n images, left of them; none if empty.
        captions: by the label of a column, n short texts that stand beneath its maps.
        scaling: "own" scales each map to its own extremes, so that methods of different units can be compared; "common"
            gives all maps one scale, in the units that they have. Which it was stands beneath the figure.
        units: of the maps, where they have one scale.
        contour: a line around what is hotter than this, 0 being the coldest and 1 the hottest color.
        controls: labels of columns that are drawn in gray.
        cell: side of an image's square in inches.
        note: more to say beneath.

    Returns:
        A plain matplotlib figure, as notebooks, W&B and TensorBoard take it; None if there is no map.

    Raises:
        InputError: for another scaling, a contour outside of 0 … 1, or columns that have not n maps.
    """
    if scaling not in _NOTES:
        raise InputError(f"scaling must be 'own' or 'common', found {scaling!r}")
    if contour is not None and not 0 < contour < 1:
        raise InputError(f"contour must be between 0 and 1, found {contour}")
    columns = {label: list(column) for label, column in maps.items()}
    for label, column in columns.items():
        if len(column) != len(images):
            raise InputError(f"{label}: {len(column)} heatmaps for {len(images)} images")
    columns = {label: column for label, column in columns.items() if any(_drawable(heatmap) for heatmap in column)}
    if not columns:
        return None
    limits = _limits(columns.values()) if scaling == "common" else None
    below = 2 * _LINE + 0.03 if captions else 0.0
    step, row_step = cell + _GAP, cell + _GAP + below
    width, height = step * (1 + len(columns)) - _GAP, row_step * len(images)
    figure = new_figure(width, height)
    bottoms = [height - row * row_step - cell for row in range(len(images))]
    for bottom, image, title in zip(bottoms, images, titles or [""] * len(images), strict=True):
        show(figure, (0, bottom, cell, cell), image)
        text = fit(title, 1.0, SMALL, 4)
        # half of what the lines take up below the middle: the first one's capitals are 0.7 font sizes high
        last = bottom + cell / 2 - _LINE / 2 * text.count("\n") - 0.35 * SMALL / 72
        write(figure, text, (-0.06, last), SMALL, ha="right")
    write(figure, "image", (cell / 2, height + 0.06), SMALL, ha="center")
    for number, (label, column) in enumerate(columns.items(), start=1):
        left, middle = number * step, number * step + cell / 2
        for bottom, image, heatmap in zip(bottoms, images, column, strict=True):
            show_map(figure, (left, bottom, cell, cell), image, heatmap, limits, contour)
        color = GRAY if label in controls else "black"
        text = fit(label, cell - _GAP, SMALL, 4) + ("\n(control)" if label in controls else "")
        write(figure, text, (middle, height + 0.06), SMALL, ha="center", color=color)
        for bottom, caption in zip(bottoms, captions[label] if captions else (), strict=bool(captions)):
            _write_down(figure, fit(caption, cell, SMALL, 2), (middle, bottom - 0.02))
    drawn = [heatmap for column in columns.values() for heatmap in column if heatmap is not None and _drawable(heatmap)]
    signed = [is_signed(heatmap, limits) for heatmap in drawn]
    notes = [_NOTES[scaling].format(units), *_line_note(contour), *[_SIGNED_NOTE] * any(signed), note]
    _key(figure, width, limits, notes, all(signed))
    enclose(figure)
    return figure


def _drawable(heatmap: np.ndarray | None) -> bool:
    return heatmap is not None and bool(np.isfinite(heatmap).all())


def _limits(columns: Iterable[Sequence[np.ndarray | None]]) -> tuple[float, float]:
    """Return the coldest and the hottest value of all maps."""
    drawn = [heatmap for column in columns for heatmap in column if heatmap is not None and _drawable(heatmap)]
    return min(float(h.min()) for h in drawn), max(float(h.max()) for h in drawn)


def _line_note(contour: float | None) -> list[str]:
    return [] if contour is None else [f"the line is at {contour:g} of the scale"]


def _write_down(figure: Figure, text: str, top: tuple[float, float]) -> None:
    """Write lines beneath a place, in inches."""
    for number, line in enumerate(text.split("\n"), start=1):
        write(figure, line, (top[0], top[1] - number * _LINE + 0.02), SMALL, ha="center")


def _key(figure: Figure, width: float, limits: tuple[float, float] | None, notes: Sequence[str], signed: bool) -> None:
    """Draw the color bar beneath the figure, and its notes beside it."""
    (wide, high), (across, up) = _BAR, figure.get_size_inches()
    top = -0.12
    axes = figure.add_axes((0, (top - high) / up, wide / across, high / up))
    low, most = limits or (0.0, 1.0)
    if signed and limits is not None:
        most = max(-low, most)
        low = -most
    colormap = SIGNED_COLORMAP if signed else COLORMAP
    bar = figure.colorbar(ScalarMappable(Normalize(low, most), colormap), cax=axes, orientation="horizontal")
    own = ["against", "for"] if signed else ["coldest", "hottest"]
    ends = own if limits is None else [f"{low:.2g}", f"{most:.2g}"]
    bar.set_ticks([])
    bar.outline.set_visible(False)
    for text, x, align in ((ends[0], 0.0, "left"), (ends[1], wide, "right")):
        write(figure, text, (x, top - high - _LINE), SMALL, ha=align, color=GRAY)
    lines = fit(" · ".join(filter(None, notes)), max(1.6, width - wide - 0.2), SMALL, 4).split("\n")
    for number, line in enumerate(lines):
        write(figure, line, (wide + 0.2, top - high - number * _LINE), SMALL, ha="left", color=GRAY)
