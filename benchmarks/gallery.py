"""Draw heatmaps for a page: of a run by epoch, as the model learned to look, or of a benchmark by method.

Run: python benchmarks/gallery.py runs/NAME/version_N --explained CLASS --output docs/timeline.jpg
     python benchmarks/gallery.py BENCHMARK --explained CLASS --output docs/gallery.jpg
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agcam.explainers.registry import is_control
from agcam.io.epoch_folders import find_epochs
from agcam.io.explained_images import PANEL, ExplainedImage, read_panel
from agcam.visualization.heatmap_grid import heatmap_grid


def draw(folder: Path, method: str, explained: str | None, count: int, output: Path) -> None:
    """Draw the first images that a run or a benchmark shows.

    Args:
        folder: `runs/NAME/version_N`, or the output of `agcam benchmark`.
        method: whose heatmaps, where epochs stand across.
        explained: only images explained for this class; None for all.
        count: how many images.
        output: a JPEG.
    """
    maps: dict[str, list[np.ndarray | None]]
    if (folder / "panel" / PANEL).is_file():
        images = _of_class(folder / "panel", explained)[:count]
        maps = {name: [image.heatmaps[name] for image in images] for name in images[0].heatmaps}
        captions, note = None, ""
    else:
        panels = [
            (f"epoch {number}", _of_class(path, explained))
            for stage, number, path in find_epochs(folder / "explanations")
            if stage == "val" and (path / PANEL).is_file()
        ]
        if not panels:
            raise SystemExit(f"{folder}: neither a benchmark nor a run with explained validation epochs")
        images = panels[0][1][:count]
        columns = {label: _same(images, shown) for label, shown in panels}
        maps = {label: [image and image.heatmaps.get(method) for image in column] for label, column in columns.items()}
        captions = {label: [f"{i.probability:.2f}" if i else "" for i in column] for label, column in columns.items()}
        note = "beneath: the probability of the explained class"
    titles = [f"{image.name}\n{image.explained}" for image in images]
    controls = [label for label in maps if is_control(label)]
    figure = heatmap_grid([image.image for image in images], maps, titles, captions, controls=controls, note=note)
    if figure is None:
        raise SystemExit(f"{folder}: no heatmap to draw")
    figure.savefig(output, dpi=100, bbox_inches="tight", pad_inches=0.08, pil_kwargs={"quality": 90})


def _of_class(panel: Path, explained: str | None) -> list[ExplainedImage]:
    found = [image for image in read_panel(panel)[0] if explained in (None, image.explained)]
    if not found:
        raise SystemExit(f"{panel}: no image is explained for {explained}")
    return found


def _same(images: Sequence[ExplainedImage], shown: Sequence[ExplainedImage]) -> list[ExplainedImage | None]:
    """Find the images in what another epoch shows; None for those that it does not."""
    by_pair = {(image.index, image.explained): image for image in shown}
    return [by_pair.get((image.index, image.explained)) for image in images]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder of a run or of a benchmark")
    parser.add_argument("--method", default="agcam", help="whose heatmaps, where epochs stand across (agcam)")
    parser.add_argument("--explained", help="only images explained for this class")
    parser.add_argument("--count", type=int, default=6, help="how many images (6)")
    parser.add_argument("--output", type=Path, required=True, help="the JPEG")
    options = parser.parse_args()
    draw(options.folder, options.method, options.explained, options.count, options.output)
