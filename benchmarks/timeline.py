"""Draw how the heatmaps of a run changed while it trained: images down, epochs across, one method.

Run: python benchmarks/timeline.py RUN --explained CLASS --output docs/timeline.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from agcam.io.epoch_folders import find_epochs
from agcam.io.explained_images import PANEL, ExplainedImage, read_panel
from agcam.visualization.heatmap_grid import heatmap_grid


def draw(run: Path, method: str, explained: str | None, epochs: list[int], count: int, output: Path) -> None:
    """Draw `count` of the images that the run's gallery shows, each with its heatmap and probability by epoch.

    Args:
        run: the folder of a run, `runs/NAME/version_N`.
        method: whose heatmaps.
        explained: only images explained for this class; None for all.
        epochs: which; empty for all that were explained.
        count: how many images, the first ones of the gallery.
        output: a PNG.
    """
    panels = {
        number: _of_class(read_panel(folder)[0], explained)
        for stage, number, folder in find_epochs(run / "explanations")
        if stage == "val" and (folder / PANEL).is_file() and (not epochs or number in epochs)
    }
    if not panels:
        raise SystemExit(f"{run}: no explained validation epochs")
    shown = [(image.index, image.explained) for image in next(iter(panels.values()))][:count]
    by_epoch = {
        f"epoch {number}": [next(i for i in panel if (i.index, i.explained) == pair) for pair in shown]
        for number, panel in panels.items()
    }
    images = next(iter(by_epoch.values()))
    maps: dict[str, list[np.ndarray | None]] = {
        label: [image.heatmaps[method] for image in column] for label, column in by_epoch.items()
    }
    figure = heatmap_grid(
        [image.image for image in images],
        maps,
        [f"{image.name}\n{image.explained}" for image in images],
        {label: [f"{image.probability:.2f}" for image in column] for label, column in by_epoch.items()},
        note="beneath: the probability of the explained class",
    )
    if figure is None:
        raise SystemExit(f"{run}: no heatmap of {method}")
    figure.savefig(output, dpi=130, bbox_inches="tight", pad_inches=0.08)


def _of_class(images: list[ExplainedImage], explained: str | None) -> list[ExplainedImage]:
    return [image for image in images if explained in (None, image.explained)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("--method", default="agcam", help="whose heatmaps (agcam)")
    parser.add_argument("--explained", help="only images explained for this class")
    parser.add_argument("--epochs", type=int, nargs="+", default=[], help="which epochs; all unless given")
    parser.add_argument("--count", type=int, default=6, help="how many images (6)")
    parser.add_argument("--output", type=Path, required=True, help="the PNG")
    options = parser.parse_args()
    draw(options.run, options.method, options.explained, options.epochs, options.count, options.output)
