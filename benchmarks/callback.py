"""Measure what explaining and scoring every validation batch adds to validation.

python benchmarks/callback.py [--cub DIR] [--rounds 7] [--output DIR]

In one fit every second validation is explained, so validations with and without explanations alternate in one process.
A validation is timed from its first hook to its last, loading included.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

# as `agcam fit` does
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import lightning as L
from timing import machine

from agcam.callbacks.explanation import ExplanationCallback
from agcam.data import CUB200, Shapes
from agcam.data.module import ImageDataModule
from agcam.training.classifier import ViTClassifier


class Stopwatch(L.Callback):
    """Record how long each validation takes."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self.started)


def main() -> None:
    """Measure and print; with --output also write callback.md and callback.json there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cub", type=Path, help="a CUB-200-2011 tree, to measure on birds as well")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")

    small = {"patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 4, "init_values": 0.1}
    cases: list[tuple[str, dict[str, Any], ImageDataModule, str, int | None]] = [
        (
            "shapes, 64 px, masks",
            {"image_size": 64, "backbone_args": small},
            Shapes(train_size=64, val_size=800, batch_size=32),
            "masks",
            None,
        )
    ]
    if options.cub:
        birds = CUB200(root=str(options.cub), batch_size=32)
        cases.append(("birds, ViT-S/16 at 224 px, boxes", {"backbone": "vit_small_patch16_224"}, birds, "boxes", 8))
        args = {"patch_size": 14, "embed_dim": 192, "depth": 6, "num_heads": 3}
        birds = CUB200(root=str(options.cub), batch_size=32)
        small = {"image_size": 112, "backbone_args": args}
        cases.append(("birds, small ViT at 112 px, boxes", small, birds, "boxes", 32))
    rows = [_measure(*case, rounds=options.rounds) for case in cases]

    where = machine("cpu")
    lines = [" · ".join(f"{k} {v}" for k, v in where.items()), ""]
    lines += ["| validation of | images | plain s | explained s | ratio |", "|---|--:|--:|--:|--:|"]
    lines += [
        f"| {r['case']} | {r['images']} | {r['plain']:.2f} | {r['explained']:.2f} | {r['ratio']:.3f} |" for r in rows
    ]
    table = "\n".join(lines) + "\n"
    print(table)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "callback.md").write_text(table)
        (options.output / "callback.json").write_text(json.dumps({"where": where, "rows": rows}, indent=2) + "\n")


def _measure(
    case: str, model: dict[str, Any], data: ImageDataModule, truth: Any, batches: int | None, rounds: int
) -> dict[str, Any]:
    """Fit for 2 · (`rounds` + 1) epochs of a single training batch; return the times without the first two epochs."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=2 * (rounds + 1),
            limit_train_batches=1,
            limit_val_batches=batches,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[ExplanationCallback(["agcam"], ground_truth=truth, every_n_epochs=2), watch],
        )
        trainer.fit(ViTClassifier(**{"backbone": "vit_tiny_patch16_224", **model}), datamodule=data)
    plain, explained = watch.seconds[2::2], watch.seconds[3::2]
    ratio = statistics.median(e / p for e, p in zip(explained, plain, strict=True))
    known = len(data.val_dataloader().dataset)  # type: ignore[arg-type]
    images = known if batches is None else min(known, batches * data.batch_size)
    return {
        "case": case,
        "images": images,
        "plain": statistics.median(plain),
        "explained": statistics.median(explained),
        "ratio": ratio,
    }


if __name__ == "__main__":
    main()
