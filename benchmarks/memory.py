"""Measure how memory, open files, threads and processes grow while a process explains or trains.

Run: python benchmarks/memory.py --output benchmarks/results  (20,000 images twice, 50 epochs; some minutes)
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}

import lightning as L
import numpy as np
import timm
import torch
import wandb
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from PIL import Image
from timing import machine, resident_bytes

import agcam
from agcam.callbacks.explanation import ExplanationCallback
from agcam.cli.images import explain_images
from agcam.data import Shapes
from agcam.data.input_config import InputConfig
from agcam.training.classifier import ViTClassifier
from agcam.training.loaded import LoadedModel

SMALL = {"patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 2}
BATCH, SIDE, CLASSES = 16, 32, 10


@dataclass
class Watch:
    """Samples of this process over time."""

    at: list[int] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)

    def look(self, at: int) -> None:
        """Take a sample after `at` images or epochs."""
        gc.collect()
        self.at.append(at)
        self.resident.append(resident_bytes(peak=False))
        self.files.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208  # names; the one of this listing is closed by now
        self.threads.append(len(list(Path("/proc/self/task").iterdir())))
        children = [task / "children" for task in Path("/proc/self/task").iterdir()]
        self.processes.append(sum(len(path.read_text().split()) for path in children if path.exists()))

    def row(self, what: str, unit: str) -> dict[str, Any]:
        """Return slope (least squares), growth and counts, without the first fifth, which loads what is loaded once."""
        later = slice(len(self.at) // 5, None)
        at, resident = self.at[later], self.resident[later]
        ends = {name: [getattr(self, name)[later][i] for i in (0, -1)] for name in ("files", "threads", "processes")}
        slope = float(np.polyfit(at, resident, 1)[0])
        megabytes = {"resident": resident[-1] / 1e6, "grown": (resident[-1] - resident[0]) / 1e6}
        return {"what": what, "count": self.at[-1], "unit": unit, "slope": slope, **megabytes, **ends}


class EpochWatch(L.Callback):
    """Take a sample after each epoch, when the loaders' workers have ended."""

    def __init__(self) -> None:
        self.watch = Watch()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take a sample: the epoch before has ended with all that belongs to it."""
        if trainer.current_epoch:
            self.watch.look(trainer.current_epoch)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take a sample of the last epoch."""
        self.watch.look(trainer.current_epoch)


def explained_in_memory(images: int) -> Watch:
    """Run `agcam.explain` batch after batch."""
    model = timm.create_model("vit_tiny_patch16_224", img_size=SIDE, num_classes=CLASSES, **SMALL).eval()
    watch = Watch()
    for number in range(images // BATCH):
        agcam.explain(model, torch.randn(BATCH, 3, SIDE, SIDE))
        if (number + 1) % max(1, images // BATCH // 50) == 0:
            watch.look((number + 1) * BATCH)
    return watch


def explained_on_disk(images: int, folder: Path) -> Watch:
    """Do what `agcam images` does: photographs in, overlays, heatmaps and predictions out."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    first, *others = paths = [folder / f"{number:06d}.jpg" for number in range(images)]
    Image.fromarray(pixels).save(first)
    for path in others:
        path.hardlink_to(first)
    names = [f"class {number}" for number in range(CLASSES)]
    classifier = ViTClassifier(
        "vit_tiny_patch16_224", image_size=SIDE, backbone_args=SMALL, class_names=names, multilabel=False
    )
    subject = LoadedModel(classifier.eval(), names, InputConfig(size=SIDE))
    watch, count = Watch(), 0

    def done(path: Path) -> None:
        nonlocal count
        count += 1
        if count % max(1, images // 50) == 0:
            watch.look(count)

    explain_images(subject, paths, folder / "explained", top=1, batch_size=BATCH, done=done)
    return watch


def fitted(epochs: int, folder: Path) -> Watch:
    """Train with the callback, loader workers, metrics and pictures on disk and in W&B."""
    watcher = EpochWatch()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        logger=[CSVLogger(folder, ""), WandbLogger(save_dir=folder, project="memory")],
        callbacks=[ExplanationCallback(["agcam", "random"], ground_truth="masks", gallery=8), watcher],
    )
    classifier = ViTClassifier("vit_tiny_patch16_224", image_size=SIDE, backbone_args=SMALL)
    data = Shapes(train_size=64, val_size=64, batch_size=BATCH, num_workers=1)
    trainer.fit(classifier, datamodule=data)
    wandb.finish()
    return watcher.watch


def main() -> None:
    """Measure and print; with --output also write memory.md and memory.json there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        os.environ["WANDB_DATA_DIR"] = name
        rows = [explained_in_memory(options.images).row("agcam.explain", "image")]
        rows.append(explained_on_disk(options.images, Path(name)).row("explain.py images", "image"))
        rows.append(fitted(options.epochs, Path(name)).row("fit with the callback", "epoch"))

    where = machine("cpu")
    lines = [" · ".join(f"{k} {v}" for k, v in where.items()), ""]
    lines += ["| | count | bytes each | grown | resident | open files | threads | processes |"]
    lines += ["|---|--:|--:|--:|--:|--:|--:|--:|"]
    for row in rows:
        counts = " | ".join(" → ".join(map(str, row[name])) for name in ("files", "threads", "processes"))
        lines.append(
            f"| {row['what']} | {row['count']:,} {row['unit']}s | {row['slope']:,.0f} | {row['grown']:.1f} MB | "
            f"{row['resident']:,.0f} MB | {counts} |"
        )
    table = "\n".join(lines) + "\n"
    print(table)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "memory.md").write_text(table)
        (options.output / "memory.json").write_text(json.dumps({"where": where, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
