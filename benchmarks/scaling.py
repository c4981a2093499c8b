"""Measure how the cost of AG-CAM grows with the batch, the tokens, the classes and the depth; draw a plot of each.

python benchmarks/scaling.py [--model vit_small_patch16_224] [--device cpu] [--rounds 5] [--output DIR]

One thing grows at a time, from a batch of 4, 224 px (196 patches), one class and the model's own depth. Ratios are to a
plain forward of the same model and batch: medians over interleaved rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import timm
import torch
from timing import Timing, interleave, machine
from torch import Tensor, nn

import agcam

BATCH, SIDE, PATCH = 4, 224, 16
BATCHES = (1, 2, 4, 8, 16, 32)
SIDES = (128, 224, 320, 416, 512)
CLASSES = (1, 5, 20, 100, 1000)
DEPTHS = (3, 6, 12, 18, 24)


@dataclass(frozen=True)
class Point:
    """A measurement: what grew, how far, and what a forward and an explanation took."""

    grown: str
    value: int
    images: int
    forward: Timing
    explained: Timing


def main() -> None:
    """Measure and print; with --output also write scaling_MODEL.md and scaling_MODEL.png there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="vit_small_patch16_224")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    measure = partial(_measure, options)
    points = [measure("images in a batch", batch, batch=batch) for batch in BATCHES]
    points += [measure("patches", (side // PATCH) ** 2, side=side) for side in SIDES]
    points += [measure("classes", classes, classes=classes) for classes in CLASSES]
    points += [measure("blocks", depth, depth=depth) for depth in DEPTHS]

    where = machine(options.device) | {"model": options.model, "rounds": str(options.rounds)}
    lines = [" · ".join(f"{k} {v}" for k, v in where.items()), ""]
    lines += ["| what grows | | forward, ms per image | explained, ms per image | × forward |", "|---|--:|--:|--:|--:|"]
    for point in points:
        forward, explained = (1000 * t.median / point.images for t in (point.forward, point.explained))
        lines.append(
            f"| {point.grown} | {point.value:,} | {forward:.1f} | {explained:.1f} | {point.explained.ratio:.2f} |"
        )
    table = "\n".join(lines) + "\n"
    print(table)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / f"scaling_{options.model}.md").write_text(table)
        _draw(points).savefig(options.output / f"scaling_{options.model}.png", dpi=110)


def _measure(
    options: argparse.Namespace,
    grown: str,
    value: int,
    batch: int = BATCH,
    side: int = SIDE,
    classes: int = 1,
    depth: int | None = None,
) -> Point:
    shape = {} if depth is None else {"depth": depth}
    model = timm.create_model(options.model, img_size=side, **shape).eval().to(options.device)
    images = torch.randn(batch, 3, side, side, device=options.device)
    targets = torch.arange(classes, device=options.device).expand(batch, -1)
    variants = {
        "forward": partial(_forward, model, images),
        "explained": partial(agcam.explain, model, images, targets),
    }
    # a thousand classes take many forwards: one round is enough for a ratio of that size
    timings = interleave(variants, options.rounds if classes < 1000 else 1, options.device)
    return Point(grown, value, batch, timings["forward"], timings["explained"])


def _forward(model: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(images)


def _draw(points: Sequence[Point]) -> plt.Figure:
    grown = list(dict.fromkeys(point.grown for point in points))
    figure, axes = plt.subplots(1, len(grown), figsize=(3.4 * len(grown), 3.2), layout="constrained")
    for axis, name in zip(axes, grown, strict=True):
        mine = [point for point in points if point.grown == name]
        values = [point.value for point in mine]
        axis.plot(values, [point.explained.ratio for point in mine], "o-", color="#b5367a", label="explained")
        axis.axhline(1, color="#888888", linestyle="--", label="plain forward")
        if max(values) > 16 * min(values):
            axis.set_xscale("log", base=10 if max(values) >= 1000 else 2)
        if max(point.explained.ratio for point in mine) > 3:
            axis.set_yscale("log", base=2)
            axis.set_yticks(ratios := (1, 2, 4, 8), list(map(str, ratios)))
        else:
            axis.set_ylim(0, 1.1 * max(point.explained.ratio for point in mine))
        axis.set_xticks(values, [f"{value:,}" for value in values])
        axis.minorticks_off()
        axis.set_xlabel(name)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("time, in forwards")
    axes[0].legend(frameon=False, loc="lower right")
    return figure


if __name__ == "__main__":
    main()
