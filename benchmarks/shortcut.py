"""Measure guided training on a planted shortcut: what a classifier loses where marks and classes part ways.

Trains a small ViT on `Shapes` with `shortcut`, plain and guided by boxes of all and of a tenth of the images, with
several seeds, and scores both the validation images, where the shortcut holds, and the test images, where it is broken.

Run: python benchmarks/shortcut.py --output benchmarks/results/shortcut.csv
"""

from __future__ import annotations

import argparse
import csv
import logging
import random
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

import agcam
from agcam.data.batch import Batch, collate
from agcam.data.input_config import InputConfig
from agcam.data.shapes import CLASSES, ShapesDataset
from agcam.data.source import TransformedDataset
from agcam.data.transforms import Transform
from agcam.metrics import EnergyPointingGame, Localization, PointingGame
from agcam.training.classifier import ViTClassifier
from agcam.training.guidance import Guidance

SIZE = 48
NETWORK = {"patch_size": 8, "embed_dim": 96, "depth": 3, "num_heads": 3, "init_values": 0.1}


class Shuffled:
    """A loader of images in memory, in another order each epoch."""

    def __init__(self, samples: list[Any], batch: int, seed: int) -> None:
        self.samples, self.batch, self.random = samples, batch, random.Random(seed)

    def __len__(self) -> int:
        return len(self.samples) // self.batch

    def __iter__(self) -> Iterator[Batch]:
        order = self.random.sample(range(len(self.samples)), len(self.samples))
        for start in range(0, len(self) * self.batch, self.batch):
            yield collate([self.samples[number] for number in order[start : start + self.batch]])


def main() -> None:
    """Train and score every arm with every seed; print and write a row each."""
    options = _options()
    torch.set_num_threads(1)  # steps of some milliseconds: threads would wait for each other
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    arms: dict[str, tuple[float, Guidance | None]] = {
        "plain": (1.0, None),
        "guided by all boxes": (1.0, Guidance(options.weight, warmup_epochs=options.warmup)),
        "guided by a tenth of the boxes": (0.1, Guidance(options.weight_of_tenth, warmup_epochs=options.warmup)),
    }
    rows = []
    for seed in options.seeds:
        for arm, (annotated, guidance) in arms.items():
            if options.arms and not any(chosen in arm for chosen in options.arms):
                continue
            start = time.perf_counter()
            model = _train(options, seed, annotated, guidance)
            seconds = time.perf_counter() - start
            for split in ("val", "test"):
                shortcut = "holds" if split == "val" else "broken"
                scores = _score(model, split, seed, options.scored)
                rows.append({"seed": seed, "arm": arm, "shortcut": shortcut, "seconds": round(seconds)} | scores)
                print(" ".join(f"{name}={value}" for name, value in rows[-1].items()), flush=True)
    if options.output:
        with options.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def _train(options: argparse.Namespace, seed: int, annotated: float, guidance: Guidance | None) -> ViTClassifier:
    source = ShapesDataset(options.images, SIZE, "train", seed=seed, shortcut=options.shortcut, annotated=annotated)
    samples = list(_samples(source))
    L.seed_everything(seed, verbose=False)
    model = ViTClassifier(
        "vit_tiny_patch16_224",
        image_size=SIZE,
        backbone_args=NETWORK,
        lr=1e-3,
        layer_decay=1.0,
        warmup_epochs=0.5,
        guidance=guidance,
        class_names=CLASSES,
        multilabel=False,
    )
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=options.epochs,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, Shuffled(samples, 32, seed))
    return model.eval()


def _score(model: ViTClassifier, split: Any, seed: int, count: int) -> dict[str, float]:
    """Score a split: accuracy, and where AG-CAM's heatmap of the true class lies."""
    source = ShapesDataset(count, SIZE, split, seed=seed, shortcut=0.95)
    samples = list(_samples(source))
    hits, iou, pointing = 0, Localization(), PointingGame()
    on_object, on_mark = EnergyPointingGame(), EnergyPointingGame()
    for start in range(0, count, 100):
        numbers = range(start, min(start + 100, count))
        batch = collate([samples[number] for number in numbers])
        explanation = agcam.explain(model, batch.image, batch.label)
        hits += int((explanation.logits.argmax(1) == batch.label).sum())
        assert batch.mask is not None
        maps, masks = explanation.heatmaps[:, 0], batch.mask > 0
        iou.update(maps, masks=masks, image_size=(SIZE, SIZE))
        pointing.update(maps, masks)
        on_object.update(maps, masks)
        on_mark.update(maps, torch.stack([_pixels(source.mark_of(number)) for number in numbers]))
    values = {
        "accuracy": hits / count,
        "iou": iou.compute()["iou"],
        "pointing": pointing.compute(),
        "energy_on_object": on_object.compute()["energy_pointing_game"],
        "energy_on_mark": on_mark.compute()["energy_pointing_game"],
    }
    return {name: round(float(value), 4) for name, value in values.items()}


def _samples(source: ShapesDataset) -> Iterator[Any]:
    dataset = TransformedDataset(source, Transform(InputConfig(size=SIZE)))
    return (dataset[number] for number in range(len(source)))


def _pixels(box: tuple[int, int, int, int] | None) -> Tensor:
    assert box is not None
    pixels = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    pixels[box[1] : box[3], box[0] : box[2]] = True
    return pixels


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="*", default=[], help="parts of their names; all without it")
    parser.add_argument("--images", type=int, default=6400)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--scored", type=int, default=1000)
    parser.add_argument("--shortcut", type=float, default=0.95, help="share of the training images")
    parser.add_argument("--weight", type=float, default=2.0)
    parser.add_argument("--weight_of_tenth", type=float, default=20.0)
    parser.add_argument("--warmup", type=float, default=0.0)
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
