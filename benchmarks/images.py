"""Measure what explaining photographs on disk adds to classifying them.

python benchmarks/images.py PHOTOS [--model vit_small_patch16_224] [--count 64] [--rounds 3] [--output DIR]

Both read, transform and classify the same files in batches of 16, with one thread that reads ahead of the model. The
one keeps the names of the three most probable classes; the other does what `agcam images` does: heatmaps of these
classes, an overlay each, raw maps, a small view, the hash of the weights; all but the report at the end. Ratios are
medians over interleaved rounds.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import torch
from timing import interleave, machine

from agcam.cli.images import explain_images
from agcam.data.photographs import Photograph, read_photographs
from agcam.training.classifier import ViTClassifier
from agcam.training.loaded import LoadedModel

BATCH = 16


def main() -> None:
    """Measure and print; with --output also write images_MODEL.md there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="a folder of JPEG files")
    parser.add_argument("--model", default="vit_small_patch16_224")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    paths = sorted(options.photos.rglob("*.jpg"))[: options.count]
    names = [f"class {number}" for number in range(40)]
    classifier = ViTClassifier(options.model, class_names=names, multilabel=False).eval()
    subject = LoadedModel(classifier, names, classifier.input_config, multilabel=False)
    with tempfile.TemporaryDirectory() as folder:
        variants = {
            "classify": partial(_classify, subject, paths),
            "explain": partial(_explain, subject, paths, Path(folder)),
        }
        timings = interleave(variants, options.rounds, "cpu")
        written = sum(path.stat().st_size for path in next(Path(folder).iterdir()).iterdir())
    lines = ["| what | images/s | × classifying |", "|---|--:|--:|"]
    lines += [f"| {n} | {len(paths) / t.median:.1f} | {1 / t.ratio:.3f} |" for n, t in timings.items()]
    where = machine("cpu") | {"model": options.model, "images": str(len(paths)), "rounds": str(options.rounds)}
    heading = " · ".join(f"{k} {v}" for k, v in where.items())
    table = "\n".join([heading, "", *lines, "", f"{written / len(paths) / 1000:.0f} kB an image"]) + "\n"
    print(table)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / f"images_{options.model}.md").write_text(table)


def _explain(subject: LoadedModel, paths: list[Path], folder: Path) -> None:
    # a folder for each round: what is done in one is skipped
    explain_images(subject, paths, Path(tempfile.mkdtemp(dir=folder)), top=3, batch_size=BATCH)


def _classify(subject: LoadedModel, paths: list[Path]) -> list[list[str]]:
    found = []
    for group in read_photographs(paths, subject.input_config, BATCH):
        images = torch.stack([item.image for item in group if isinstance(item, Photograph)])
        with torch.inference_mode():
            first = subject.model(images).topk(3, dim=1).indices
        found += [[subject.class_names[target] for target in row] for row in first.tolist()]
    return found


if __name__ == "__main__":
    main()
