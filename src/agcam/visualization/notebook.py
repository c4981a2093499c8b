"""Heatmaps for people at a notebook: a figure over the images, and a small table without them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from agcam.errors import InputError
from agcam.visualization.heatmap_grid import Scaling, heatmap_grid
from agcam.visualization.overlay import COLORMAP, SIGNED_COLORMAP, is_signed, resize_map

_ROWS = 8
_PIXELS = 112
_CELL = 1.6


def plot_heatmaps(
    images: Sequence[np.ndarray],
    heatmaps: np.ndarray,
    names: Sequence[Sequence[str]],
    values: Sequence[Sequence[str]],
    note: str = "",
    titles: Sequence[str] = (),
    scaling: Scaling = "own",
    contour: float | None = None,
    units: str = "",
) -> Figure:
    """Draw heatmaps over their images: images down, classes across, a color bar beneath.

    Args:
        images: B pictures (H, W, 3) uint8 RGB, sizes may differ.
        heatmaps: (B, n, h, w).
        names: of the explained classes, n an image.
        values: what is said beside each name, n an image, such as "12%".
        note: said beneath the figure.
        titles: names of the images, left of them.
        scaling: "own" or "common", as for `heatmap_grid`.
        contour: a line around what is hotter than this share of the scale.
        units: of the heatmaps.

    Raises:
        InputError: if no heatmap is finite, or an argument makes no sense.
    """
    labels = names[0]  # of columns, if all images are explained for the same classes
    if any(row != labels for row in names) or len(set(labels)) < len(labels):
        labels = [f"heatmap {n}" for n in range(1, len(labels) + 1)] if len(labels) > 1 else ["heatmap"]
    columns = {label: list(heatmaps[:, column]) for column, label in enumerate(labels)}
    captions = {
        label: [
            value[column] if label == name[column] else f"{name[column]} {value[column]}".strip()
            for name, value in zip(names, values, strict=True)
        ]
        for column, label in enumerate(labels)
    }
    figure = heatmap_grid(images, columns, titles, captions, scaling, units, contour, cell=_CELL, note=note)
    if figure is None:
        raise InputError("none of the heatmaps is finite; there is nothing to plot")
    return figure


def html_table(
    heatmaps: np.ndarray,
    names: Sequence[Sequence[str]],
    values: Sequence[Sequence[str]],
    note: str = "",
    title: str = "",
) -> str:
    """Show the heatmaps of the first images in an HTML table that needs no images; arguments as `plot_heatmaps`."""
    rows = []
    for number, (maps, row, said_of) in enumerate(zip(heatmaps[:_ROWS], names, values, strict=False)):
        cells = [
            f'<td style="text-align:center"><img src="{_picture(heatmap)}" width="{_PIXELS}" alt="heatmap" '
            f'style="image-rendering:pixelated"><br>{html.escape(f"{name} {value}")}</td>'
            for heatmap, name, value in zip(maps, row, said_of, strict=True)
        ]
        rows.append(f"<tr><th>image {number}</th>{''.join(cells)}</tr>")
    more = f"the first {_ROWS} of {len(heatmaps)} images" if len(heatmaps) > _ROWS else ""
    said = [part for part in (title, more, note) if part]
    said += ["each scaled to its own extremes", "plot(images) lays them over the images"]
    return f"<table>{''.join(rows)}</table><p>{html.escape(' · '.join(said))}</p>"


def _picture(heatmap: np.ndarray) -> str:
    """Encode a heatmap as the data URI of a PNG with a pixel a patch; black where it is not finite."""
    known = heatmap if np.isfinite(heatmap).all() else np.zeros_like(heatmap)
    scaled = resize_map(known, (heatmap.shape[0], heatmap.shape[1]))
    colormap = SIGNED_COLORMAP if is_signed(known) else COLORMAP
    colors = (mpl.colormaps[colormap](scaled)[..., :3] * 255).round().astype(np.uint8)
    packed = io.BytesIO()
    Image.fromarray(colors).save(packed, "PNG")
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}"
