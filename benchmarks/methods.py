"""Measure what comparing eight methods costs, beside the forward passes that the definitions need.

python benchmarks/methods.py [--cub DIR] [--model vit_small_patch16_224] [--count 8] [--rounds 1] [--output DIR]

Every round does what `agcam benchmark` does with all default metrics: it loads the images, explains them by each
method, scores the heatmaps and writes the rows. Beside it stand plain forwards of images that are in memory: one for
the predictions, one for each method that reads a forward, three for each whose definition asks for a backward pass, and
those of the perturbation metrics for each method. These are many: a round of 8 images takes some 5,300 forwards.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import torch
from baselines import plain_forwards
from timing import interleave, machine

from agcam.benchmark.measure import BenchmarkConfig
from agcam.benchmark.methods import parse_methods
from agcam.benchmark.run import Job, run
from agcam.data import CUB200, Shapes
from agcam.metrics.registry import default_metrics, parse_metrics
from agcam.training.classifier import ViTClassifier
from agcam.training.loaded import LoadedModel

BATCH = 16
PREDICTIONS = 1
FORWARDS = {
    "agcam": 1,
    "agcam:feature_map=softmax": 1,
    "contrast_cam": 1,
    "raw_attention": 1,
    "rollout": 1,
    "attention_gradcam": 1,  # its gradient ends at the last attention
    "legrad": 3,
    "random": 0,
}
PERTURBED = {"abpc": 22, "insertion_deletion": 42, "positive_negative": 18}


def main() -> None:
    """Measure and print; with --output also write methods_MODEL.md there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cub", type=Path, help="a CUB-200-2011 tree; generated shapes without it")
    parser.add_argument("--model", default="vit_small_patch16_224")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    job = _job(options)
    config = BenchmarkConfig(
        tuple(parse_methods(list(FORWARDS))), tuple(parse_metrics(default_metrics())), False, BATCH
    )
    forwards = PREDICTIONS + sum(FORWARDS.values()) + len(FORWARDS) * sum(PERTURBED.values())
    side = job.subject.input_config.size
    images = torch.randn(options.count, 3, side, side)
    variants = {
        "forwards": partial(plain_forwards, job.subject.model, images, forwards, BATCH),
        "benchmark": partial(_benchmark, job, config),
    }
    timings = interleave(variants, options.rounds, "cpu", warm_up=False)
    data = "birds" if options.cub else "shapes"
    where = machine("cpu") | {
        "model": options.model,
        "images": f"{options.count} {data}",
        "rounds": str(options.rounds),
    }
    lines = [" · ".join(f"{k} {v}" for k, v in where.items()), "", f"| what | s | × {forwards} forwards an image |"]
    lines += ["|---|--:|--:|", *(f"| {name} | {t.median:.1f} | {t.ratio:.3f} |" for name, t in timings.items())]
    table = "\n".join(lines) + "\n"
    print(table)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / f"methods_{options.model}.md").write_text(table)


def _job(options: argparse.Namespace) -> Job:
    data = CUB200(root=str(options.cub)) if options.cub else Shapes(val_size=options.count)
    source = data.open("val")
    classifier = ViTClassifier(options.model, class_names=source.class_names, multilabel=False).eval()
    data.fit_input(classifier.input_config)
    positions = [number * len(source) // options.count for number in range(options.count)]
    return Job(LoadedModel(classifier, source.class_names, data.input_config), source, positions)


def _benchmark(job: Job, config: BenchmarkConfig) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(job, lambda: job, config, Path(folder), ["cpu"], lambda count: None)


if __name__ == "__main__":
    main()
