"""Draw the figures of a benchmark: perturbation curves, threshold sweeps, and maps side by side.

Each function draws to `<path>.png`, `.pdf` and `.svg` and returns whether there was anything to draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from agcam.benchmark.results import Results, Row
from agcam.explainers.registry import is_control
from agcam.visualization.figures import (
    COLORS,
    FONT,
    GRAY,
    LABEL,
    MORE_COLORS,
    SMALL,
    fit,
    new_figure,
    save,
    style_axes,
)
from agcam.visualization.heatmap_grid import heatmap_grid

_Styled = list[tuple[Row, dict[str, Any]]]
_ALL = (*COLORS, *MORE_COLORS)
# fourteen colors and four dashes, both taken in turn: 28 methods can be told apart
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.2)), (0, (1, 1)), (0, (6, 1.2, 1, 1.2)))
_CONTROL_DASHES = ((0, (2.5, 2)), (0, (7, 3)))


def perturbation_curves(results: Results, path: Path) -> bool:
    """Draw the model's output while pixels are removed or inserted, a line for each method.

    Each metric is a column: the curve that a good method keeps high stands above the one that it makes fall, since
    two dozen lines in one panel are unreadable. A metric that lacks one of its curves is left out.

    Args:
        results: of a benchmark; methods that failed are left out.
        path: without suffix.

    Returns:
        Whether there was anything to draw.
    """
    columns = [names for names in _by_metric(results, "pixels") if all(_drawn(results, [name]) for name in names)]
    rows = _drawn(results, [name for names in columns for name in names])
    if not rows:
        return False
    height = max(len(names) for names in columns)
    figure = new_figure(2.5 * len(columns), 2.5 * height, layout="constrained")
    panels = figure.subplots(height, len(columns), squeeze=False, sharey="col")
    for names, column in zip(columns, panels.T, strict=True):
        for name, axes in zip(names, column, strict=False):
            _lines(axes, results, rows, name)
            info = results.curves[name]
            arrow = {True: " ↑", False: " ↓", None: ""}[info.higher_is_better]
            style_axes(axes, info.title + arrow, info.x_label, info.y_label)
            axes.xaxis.set_major_formatter(PercentFormatter(1))
        for axes in column[len(names) :]:
            axes.set_axis_off()
        _from_zero(column[0])  # last: setting a limit ends the automatic scaling
    _legend(figure, rows, "↑ higher is better\n↓ lower is better")
    save(figure, path)
    return True


def threshold_sweep(results: Results, path: Path) -> bool:
    """Draw overlap and box accuracy over the threshold of the heatmap: a line for each method, a dot at its best.

    Args:
        results: of a benchmark; methods that failed are left out.
        path: without suffix.

    Returns:
        Whether there was anything to draw.
    """
    names = [name for names in _by_metric(results, "threshold") for name in names if _drawn(results, [name])]
    rows = _drawn(results, names)
    if not rows:
        return False
    figure = new_figure(3.4 * len(names), 3.2, layout="constrained")
    for name, axes in zip(names, figure.subplots(1, len(names), squeeze=False)[0], strict=True):
        axes.axvline(0.5, color="0.75", linewidth=0.8, zorder=0.5)
        _lines(axes, results, rows, name, best=True)
        info = results.curves[name]
        style_axes(axes, info.title, info.x_label, info.y_label)
        _from_zero(axes)
    _legend(figure, rows, "● best threshold\n│ the fixed one, 0.5")
    save(figure, path)
    return True


def grid(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    maps: Mapping[str, Iterable[np.ndarray | None]],
    path: Path,
) -> bool:
    """Draw photographs down, methods across, each heatmap over its photograph.

    Args:
        images: n photographs (H, W, 3) uint8 RGB, sizes may differ.
        titles: their n names.
        maps: by method label, n heatmaps (h, w), any units. None and maps that are not finite are shown as missing;
            methods that have no other are left out.
        path: without suffix.

    Returns:
        Whether there was anything to draw.
    """
    controls = [label for label in maps if is_control(label)]
    figure = heatmap_grid(images, maps, titles, controls=controls)
    if figure is None:
        return False
    save(figure, path)
    return True


def _by_metric(results: Results, over: str) -> list[list[str]]:
    """Return the names of the curves over pixels or thresholds, metric by metric, the ones to keep high first."""
    metrics: dict[str, list[str]] = {}
    for name, info in results.curves.items():
        if info.over == over:
            metrics.setdefault(info.metric, []).append(name)
    return [
        sorted(names, key=lambda name: results.curves[name].higher_is_better is False) for names in metrics.values()
    ]


def _from_zero(axes: Axes) -> None:
    if axes.get_ylim()[0] > 0 or all(np.nanmin(line.get_ydata()) >= 0 for line in axes.lines):
        axes.set_ylim(bottom=0)


def _drawn(results: Results, curves: Sequence[str]) -> _Styled:
    """Return the rows that have points of one of the curves, controls last, with their line styles.

    Failed rows use up a style, so that a method looks the same in all figures of one list of methods.
    """
    methods = [row for row in results.rows if not row.control]
    controls = [row for row in results.rows if row.control]
    styles = [
        {"color": _ALL[n % len(_ALL)], "linestyle": _DASHES[n % len(_DASHES)], "linewidth": 1.4}
        for n in range(len(methods))
    ] + [
        {"color": GRAY, "linestyle": _CONTROL_DASHES[n % len(_CONTROL_DASHES)], "linewidth": 1.1, "zorder": 1}
        for n in range(len(controls))
    ]
    known = [curve for curve in curves if curve in results.curves]
    rows = zip([*methods, *controls], styles, strict=True)
    return [(row, style) for row, style in rows if any(np.isfinite(_points(row, curve)).any() for curve in known)]


def _lines(axes: Axes, results: Results, rows: _Styled, curve: str, best: bool = False) -> None:
    x = np.array(results.curves[curve].x, dtype=float)
    for row, style in rows:
        y = _points(row, curve)
        if np.isfinite(y).any():
            axes.plot(x, y, **style)
            if best:
                axes.plot(x[np.nanargmax(y)], np.nanmax(y), "o", color=style["color"], markersize=3)
    axes.set_xlim(min(0, *x), max(1, *x))


def _points(row: Row, curve: str) -> np.ndarray:
    """Return the mean curve, empty where there is none; a null in results.json becomes NaN, a gap."""
    return np.array([] if row.failed else row.curves.get(curve, []), dtype=float)


def _legend(figure: Figure, rows: _Styled, note: str) -> None:
    """Draw the legend to the right of all panels, where it covers no line; `save` makes room for it."""
    legend = figure.legend(
        [Line2D([], [], **style) for _, style in rows],
        ["method"] * len(rows),  # set below: matplotlib leaves out labels that begin with "_"
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        fontsize=LABEL,
        handlelength=3.2,
        title=note,
        title_fontsize=SMALL,
        alignment="left",
    )
    legend.get_title().set_color(GRAY)
    for text, (row, _) in zip(legend.get_texts(), rows, strict=True):
        text.set_parse_math(False)
        text.set_usetex(False)
        text.set_fontfamily(FONT)
        text.set_text(fit(f"{row.method} (control)" if row.control else row.method, 2.4, LABEL, 3))
