"""Load run of `agcam images --format parquet`: speed beside classifying, memory, bytes and files, and three kills.

Run: python benchmarks/many_images.py [--count 20000] [--model vit_small_patch16_224] [--photos DIR] --output DIR

Without --photos, some generated photographs are listed again and again. The folder of the output is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from pyarrow import parquet
from timing import machine

from agcam.bulk.manifest import read_manifest
from agcam.data.photographs import Photograph, read_photographs
from agcam.training.classifier import ViTClassifier
from agcam.training.export import export
from agcam.training.loaded import LoadedModel

_SOME = 64
_KILLS = 3


@dataclass(frozen=True)
class Run:
    """An uninterrupted run of the command."""

    images: int
    per_second: float
    peak: int
    bytes_an_image: float
    files: int


def main() -> None:
    """Measure and print; also write many_images_MODEL.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--model", default="vit_small_patch16_224")
    parser.add_argument("--photos", type=Path, help="a folder of JPEG files")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--shard-size", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    torch.manual_seed(0)
    names = [f"class {number}" for number in range(40)]
    classifier = ViTClassifier(options.model, class_names=names, multilabel=False).eval()
    export(classifier, options.output / "model")
    photos = sorted((options.photos or _make_photos(options.output / "photos")).rglob("*.jpg"))
    paths = [photos[number % len(photos)].resolve() for number in range(options.count)]
    few = max(1, options.count // 10)
    subject = LoadedModel(classifier, names, classifier.input_config)
    _classify(subject, paths[: options.batch_size], options)  # to warm up
    classified = _classify(subject, paths[:few], options)
    short = _run(paths[:few], "short", options)
    whole = _run(paths, "whole", options)
    _kill(paths, "killed", options)
    _compare(options.output / "whole", options.output / "killed", paths)
    lines = [
        " · ".join(f"{k} {v}" for k, v in (machine(options.device) | {"model": options.model}).items()),
        "",
        "| | |",
        "|---|--:|",
        f"| images | {whole.images} |",
        f"| classify alone, images/s, {few} images | {classified:.1f} |",
        f"| explain, images/s | {whole.per_second:.1f} |",
        f"| × classifying | {whole.per_second / classified:.2f} |",
        f"| peak memory, {short.images} images | {short.peak >> 20} MiB |",
        f"| peak memory, {whole.images} images | {whole.peak >> 20} MiB |",
        f"| bytes an image | {whole.bytes_an_image:.0f} |",
        f"| files | {whole.files} |",
        f"| lost or doubled in {_KILLS} kills | 0 |",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    (options.output / f"many_images_{options.model}.md").write_text(text)


def _make_photos(folder: Path) -> Path:
    folder.mkdir()
    for number in range(_SOME):
        coarse = np.random.default_rng(number).integers(0, 255, (12, 16, 3)).astype(np.uint8)
        Image.fromarray(cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC)).save(folder / f"{number}.jpg")
    return folder


def _classify(subject: LoadedModel, paths: list[Path], options: argparse.Namespace) -> float:
    """Return images a second of reading and classifying, with as many threads."""
    subject.model.to(options.device)
    begun = time.monotonic()
    for group in read_photographs(paths, subject.input_config, options.batch_size, workers=options.workers):
        images = torch.stack([item.image for item in group if isinstance(item, Photograph)])
        with torch.inference_mode():
            subject.model(images.to(options.device)).topk(3, dim=1).indices.tolist()
    return len(paths) / (time.monotonic() - begun)


def _command(paths: list[Path], name: str, options: argparse.Namespace) -> list[str]:
    """Return the command that explains some paths, which are listed in a file."""
    listed = options.output / f"{name}.txt"
    listed.write_text("".join(f"{path}\n" for path in paths))
    known: list[Any] = ["--checkpoint", options.output / "model", "--input", listed, "--output", options.output / name]
    known += ["--batch-size", options.batch_size, "--shard-size", options.shard_size, "--workers", options.workers]
    command = [sys.executable, "-m", "agcam", "images", *known, "--device", options.device]
    return [*map(str, command), "--format", "parquet", "--quiet", "--json"]


def _run(paths: list[Path], name: str, options: argparse.Namespace) -> Run:
    process = subprocess.Popen(_command(paths, name, options), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None  # it is a pipe
    found = json.loads(process.stdout.read())
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the run {name} failed")
    files = [path for path in (options.output / name).rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return Run(len(paths), len(paths) / found["seconds"], used.ru_maxrss * 1024, size / len(paths), len(files))


def _kill(paths: list[Path], name: str, options: argparse.Namespace) -> None:
    """Kill the command at some moment of its work, three times; then let it finish."""
    command, shards = _command(paths, name, options), options.output / name / "shards"
    moments = random.Random(0)
    for _ in range(_KILLS):
        before = len(list(shards.glob("*.parquet")))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while len(list(shards.glob("*.parquet"))) == before and process.poll() is None:
            time.sleep(0.05)
        time.sleep(moments.uniform(0, 2))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def _compare(whole: Path, killed: Path, paths: list[Path]) -> None:
    """Check that a run that was killed has every image as often as it is listed, and the rows of the other."""
    one, other = (parquet.read_table(folder / "shards").sort_by("name") for folder in (whole, killed))
    assert Counter(other.column("name").to_pylist()) == Counter(map(str, paths)), "images were lost or doubled"
    assert one.select(["name", "classes"]).equals(other.select(["name", "classes"])), "rows differ"
    complete = (read_manifest(killed) or {})["complete"]
    assert complete["images"] == len(paths), "the manifest is wrong"


if __name__ == "__main__":
    main()
