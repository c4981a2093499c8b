"""Measure training by Lightning's Trainer and by a hand-written loop, of the same model on the same batches."""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import timm.optim
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from timing import Timing, interleave, synchronize
from torch import Tensor

from agcam.data.batch import Batch
from agcam.training.classifier import ViTClassifier

CLASSES = 200
SMALL = {"patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 4}
LOG_EVERY = 50  # Lightning's own default
Log = Callable[[dict[str, float]], object]


class BareLoop:
    """What `ViTClassifier` and Trainer do, as a script: AdamW over layer-wise groups, a cosine schedule by step."""

    def __init__(
        self,
        classifier: ViTClassifier,
        total: int,
        device: str,
        bf16: bool = False,
        fused: bool = True,
        compiled: bool = False,
    ) -> None:
        self.device, self.bf16 = device, bf16
        self.model: Any = deepcopy(classifier.backbone).to(device)
        h = classifier.hparams
        groups = timm.optim.param_groups_layer_decay(
            self.model, h["weight_decay"], self.model.no_weight_decay(), layer_decay=h["layer_decay"]
        )
        for group in groups:
            group["lr"] = h["lr"] * group.pop("lr_scale", 1.0)
        self.optimizer = torch.optim.AdamW(groups, lr=h["lr"], fused=fused and device.startswith("cuda"))
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
        )
        if compiled:
            self.model = torch.compile(self.model)
        self.step = 0
        self.loss = torch.tensor(math.nan)

    def train(self, batches: Iterable[Batch], log: Log | None = None) -> None:
        """Take a step on every batch."""
        self.model.train()
        for batch in batches:
            there = batch.to(self.device, non_blocking=True)
            self.loss = F.cross_entropy(self._logits(there.image), there.label)
            self.optimizer.zero_grad()
            self.loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            self.optimizer.step()
            self.scheduler.step()
            self.step += 1
            if log and self.step % LOG_EVERY == 0:
                log({"step": self.step, "train/loss": self.loss.item()})

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch], log: Log) -> None:
        """Log the mean loss, top-1 accuracy and top-5 accuracy."""
        self.model.eval()
        sums, count = torch.zeros(3, device=self.device), 0
        for batch in batches:
            there = batch.to(self.device, non_blocking=True)
            logits = self._logits(there.image)
            hits = logits.topk(5).indices == there.label[:, None]
            sums += torch.stack([F.cross_entropy(logits, there.label, reduction="sum"), hits[:, 0].sum(), hits.sum()])
            count += len(batch)
        loss, accuracy, top5 = (sums / count).tolist()
        log({"step": self.step, "val/loss": loss, "val/accuracy": accuracy, "val/top5": top5})

    def _logits(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            logits: Tensor = self.model(images)
        return logits


class InMemory:
    """A loader of batches in memory; a plain list would mean several loaders to Lightning."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


class Turns(L.Callback):
    """Run the hand-written loop for a turn whenever Lightning starts one, and time both.

    Args:
        other: the loop's turn.
        steps: how many make a turn; None for an epoch, validation included.
    """

    def __init__(self, other: Callable[[], None], steps: int | None, device: str) -> None:
        self.other, self.steps, self.device = other, steps, device
        self.seconds: dict[str, list[float]] = {"bare loop": [], "Lightning": []}
        self.started: float | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start a turn, where a turn is an epoch."""
        if self.steps is None:
            self._change()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start a turn, where a turn is some steps."""
        if self.steps is not None and batch_idx % self.steps == 0:
            self._change()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End the last turn."""
        self._stop()

    def _change(self) -> None:
        self._stop()
        start = time.perf_counter()
        self.other()
        synchronize(self.device)
        self.seconds["bare loop"].append(time.perf_counter() - start)
        self.started = time.perf_counter()

    def _stop(self) -> None:
        synchronize(self.device)
        if self.started is not None:
            self.seconds["Lightning"].append(time.perf_counter() - self.started)

    def timings(self) -> dict[str, Timing]:
        """Return the times without the first turn, which warms up."""
        bare = self.seconds["bare loop"][1:]
        return {
            name: Timing(own[1:], [o / b for o, b in zip(own[1:], bare, strict=True)])
            for name, own in self.seconds.items()
        }


def steps(options: argparse.Namespace) -> Iterator[tuple[str, int, dict[str, Timing]]]:
    """Time training steps alone, turn by turn within one fit."""
    for case, classifier, batches in _cases(options):
        turn = _times(batches, options.steps)
        total = len(turn) * (options.rounds + 1)
        loop = BareLoop(classifier, total, options.device, options.precision == "bf16")
        turns = Turns(partial(loop.train, turn), options.steps, options.device)
        trainer = _trainer(options, turns, max_epochs=1, logger=False)
        trainer.fit(classifier, InMemory(turn * (options.rounds + 1)))
        _expect_equal(loop, trainer)
        yield case, options.steps * len(batches[0]), turns.timings()


def fits(options: argparse.Namespace) -> Iterator[tuple[str, int, dict[str, Timing]]]:
    """Time epochs of some steps, validation and a CSV log."""
    for case, classifier, batches in _cases(options):
        training, validation = _times(batches, options.steps), batches
        loop = BareLoop(classifier, len(training) * (options.rounds + 1), options.device, options.precision == "bf16")
        with tempfile.TemporaryDirectory() as folder, (Path(folder) / "bare.csv").open("w") as file:
            rows = csv.DictWriter(file, ["step", "train/loss", "val/loss", "val/accuracy", "val/top5"])

            def epoch(loop: BareLoop, log: Log, flush: Callable[[], None]) -> None:
                loop.train(training, log)  # noqa: B023
                loop.validate(validation, log)  # noqa: B023
                flush()

            turns = Turns(partial(epoch, loop, rows.writerow, file.flush), None, options.device)
            trainer = _trainer(options, turns, max_epochs=options.rounds + 1, logger=CSVLogger(folder))
            trainer.fit(classifier, InMemory(training), InMemory(validation))
        _expect_equal(loop, trainer)
        yield case, options.steps * len(batches[0]), turns.timings()


def variants(options: argparse.Namespace) -> Iterator[tuple[str, int, dict[str, Timing]]]:
    """Time the hand-written loop with different precisions and optimizers."""
    classifier = make_classifier(options.model)
    batches = _times(_batches(224, options.batch, options.device), options.steps)
    kinds = {
        "fp32": {"fused": False},
        "fp32, fused AdamW": {"fused": True},
        "bf16": {"bf16": True, "fused": False},
        "bf16, fused AdamW": {"bf16": True, "fused": True},
        "bf16, fused AdamW, compiled": {"bf16": True, "fused": True, "compiled": True},
    }
    loops = {name: BareLoop(classifier, 1000, options.device, **kind) for name, kind in kinds.items()}
    runs: dict[str, Callable[[], object]] = {name: partial(loop.train, batches) for name, loop in loops.items()}
    yield options.model, options.steps * options.batch, interleave(runs, options.rounds, options.device)


def make_classifier(backbone: str, **arguments: Any) -> ViTClassifier:
    """Make a classifier that needs no data module."""
    names = [str(number) for number in range(CLASSES)]
    torch.manual_seed(0)
    return ViTClassifier(backbone, class_names=names, multilabel=False, warmup_epochs=0, **arguments)


def _cases(options: argparse.Namespace) -> Iterator[tuple[str, ViTClassifier, list[Batch]]]:
    large = make_classifier(options.model)
    yield (
        f"{options.model}, batch {options.batch}",
        large,
        _batches(large.input_config.size, options.batch, options.device),
    )
    small = make_classifier("vit_tiny_patch16_224", image_size=64, backbone_args=SMALL)
    yield "4 blocks of width 128 at 64 pixels, batch 32", small, _batches(64, 32, options.device)


def _batches(size: int, count: int, device: str) -> list[Batch]:
    """Make two batches in memory, page-locked as the loader would make them."""
    made = []
    for start in (0, count):
        image, label = torch.randn(count, 3, size, size), torch.randint(CLASSES, (count,))
        index = torch.arange(start, start + count)
        made.append(Batch(image, label, [None] * count, [None] * count, None, index, ["noise"] * count))
    return [batch.pin_memory() for batch in made] if device.startswith("cuda") else made


def _times(batches: list[Batch], count: int) -> list[Batch]:
    return [batches[number % len(batches)] for number in range(count)]


def _trainer(options: argparse.Namespace, turns: Turns, **arguments: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="gpu" if options.device.startswith("cuda") else "cpu",
        devices=1,
        precision="bf16-mixed" if options.precision == "bf16" else "32-true",
        callbacks=[turns],
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )


def _expect_equal(loop: BareLoop, trainer: L.Trainer) -> None:
    """Raise if the losses differ: then the two did not train alike, and their times cannot be compared."""
    theirs, ours = float(trainer.callback_metrics["train/loss"]), float(loop.loss)
    assert math.isclose(theirs, ours, rel_tol=0.02), f"the losses differ: Lightning {theirs}, bare loop {ours}"
