"""Measure what perturbation metrics cost, beside the forward passes that their definitions name.

python benchmarks/perturbation.py [--model vit_small_patch16_224] [--images 4] [--rounds 5] [--output DIR]

ABPC is defined by two curves of 11 points, insertion and deletion by two of 21, positive and negative perturbation by
two of 9: 22, 42 and 18 forwards an image. The model is wrapped as `agcam benchmark` wraps it, and "all" are measured as
it does. Ratios are medians over interleaved rounds, to that many forwards.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import timm
import torch
from baselines import plain_forwards
from timing import interleave, machine
from torch import Tensor, nn

from agcam.explainers.lean_forward import LeanModel
from agcam.metrics.faithfulness.abpc import abpc_curves
from agcam.metrics.faithfulness.insertion_deletion import insertion_deletion_curves
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.registry import parse_metrics

_CURVES = {"ABPC": (abpc_curves, 22), "insertion and deletion": (insertion_deletion_curves, 42)}
_ALL = ["abpc", "insertion_deletion", "positive_negative"]


def main() -> None:
    """Measure and print; with --output also write perturbation_MODEL.md there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="vit_small_patch16_224")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = timm.create_model(options.model).eval().to(options.device)
    images = torch.randn(options.images, 3, *model.patch_embed.img_size, device=options.device)
    heatmaps, targets = torch.rand(options.images, 14, 14), torch.zeros(options.images, dtype=torch.long)
    lines = ["| metric | ms per image | × its forwards |", "|---|--:|--:|"]
    scorer = LeanModel(model)
    scores = {
        name: (partial(curves, scorer, images, heatmaps, targets, batch_size=16), forwards)
        for name, (curves, forwards) in _CURVES.items()
    }
    scores["all, and positive and negative"] = (partial(_measure_all, scorer, images, heatmaps, targets), 22 + 42 + 18)
    for name, (scored, forwards) in scores.items():
        variants = {"forwards": partial(plain_forwards, model, images, forwards), name: scored}
        timing = interleave(variants, options.rounds, options.device)[name]
        lines.append(f"| {name} | {1000 * timing.median / options.images:.0f} | {timing.ratio:.3f} |")
    where = machine(options.device) | {k: str(getattr(options, k)) for k in ("model", "images", "rounds")}
    table = "\n".join([" · ".join(f"{k} {v}" for k, v in where.items()), "", *lines]) + "\n"
    print(table)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / f"perturbation_{options.model}.md").write_text(table)


def _measure_all(model: nn.Module, images: Tensor, heatmaps: Tensor, targets: Tensor) -> None:
    every = torch.ones_like(targets, dtype=torch.bool)
    inputs = MetricInputs(model, images, heatmaps, targets, correct=every, alone=every, batch_size=16)
    for spec in parse_metrics(_ALL):
        spec.measure(inputs)


if __name__ == "__main__":
    main()
