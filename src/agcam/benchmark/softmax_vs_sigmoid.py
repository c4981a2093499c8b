"""Draw the paper's reason for its sigmoid: softmax turns the attention scores into a few peaks, sigmoid does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor, nn

from agcam.explainers.explain import Targets, explain
from agcam.visualization.figures import COLORS, GRAY, LABEL, SMALL, new_figure, save, show, show_map, style_axes, write

_STYLES: dict[str, dict[str, Any]] = {
    "softmax": {"color": COLORS[1], "linestyle": (0, (5, 1.2))},
    "sigmoid": {"color": COLORS[0], "linestyle": "-"},
}


def peaks(model: nn.Module, images: Tensor, pixels: Sequence[np.ndarray], path: Path, targets: Targets = None) -> bool:
    """Draw AG-CAM with the softmax and with the sigmoid of the attention scores, and how concentrated each map is.

    Leem & Seo 2024 (arXiv 2402.04563) replace softmax because it concentrates the map in a few patches, and the
    object's extent is lost. The plot beside the maps shows the share of each patch in a map's sum, strongest first.

    Args:
        model: as for `explain`.
        images: (n, 3, H, W), normalized, on the model's device; each is a row, one to three make a figure.
        pixels: the same n images, (H, W, 3) uint8 RGB.
        path: without suffix; `.png`, `.pdf` and `.svg` are written.
        targets: the classes to explain, as for `explain`; of several an image, the first is shown.

    Returns:
        Whether there was anything to draw.

    Raises:
        InputError: as `explain`.
        ModelError: as `explain`.
    """
    if not len(images):
        return False
    explained = [explain(model, images, targets, "agcam", feature_map=name) for name in _STYLES]
    maps = [explanation.heatmaps[:, 0].cpu().numpy() for explanation in explained]
    placed = [explanation.placed[:, 0].cpu().numpy() for explanation in explained]
    cell, gap, left, plot = 1.8, 0.08, 0.5, 2.1
    step = cell + gap
    width, height = 3 * step + left + plot, len(images) * step
    figure = new_figure(width, height)
    for row, image in enumerate(pixels):
        heatmaps = [found[row] for found in maps]
        bottom = height - row * step - cell
        show(figure, (0, bottom, cell, cell), image)
        for column, heatmap in enumerate((found[row] for found in placed), start=1):
            show_map(figure, (column * step, bottom, cell, cell), image, heatmap)
        # room below for the ticks, above for the two lines that name the curves
        low, high = 0.34, 0.3
        box = ((3 * step + left) / width, (bottom + low) / height, plot / width, (cell - low - high) / height)
        axes = figure.add_axes(box)
        style_axes(axes, "", "patches, strongest first", "share of sum, %")
        for number, ((name, style), heatmap) in enumerate(zip(_STYLES.items(), heatmaps, strict=True)):
            place = (width, bottom + cell - 0.08 - 0.13 * number)
            told = f"{name}: {_draw_shares(axes, heatmap, style)}"
            write(figure, told, place, SMALL, ha="right", color=style["color"])
        axes.set_ylim(bottom=0)
    for column, title in enumerate(["image", *(f"AG-CAM, {name}" for name in _STYLES)]):
        write(figure, title, (column * step + cell / 2, height + 0.06), LABEL, ha="center")
    note = "each map scaled to its own extremes"
    write(figure, note, (3 * step - gap, -0.06), SMALL, ha="right", color=GRAY)
    save(figure, path)
    return True


def _draw_shares(axes: Axes, heatmap: np.ndarray, style: dict[str, Any]) -> str:
    """Draw each patch's share of the sum, strongest first; return how many patches hold half of it, in words."""
    total = float(heatmap.sum(dtype=np.float64))
    if not np.isfinite(total):
        return "the map is not finite"
    if not total:
        return "nothing speaks for the class"
    shares = np.sort(heatmap.ravel().astype(np.float64))[::-1] / total
    axes.plot(np.arange(1, len(shares) + 1), 100 * shares, linewidth=1.4, **style)
    half = int(np.searchsorted(shares.cumsum(), 0.5)) + 1
    return f"half of it in {half} of {len(shares)} patches"
