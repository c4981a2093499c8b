"""Measure what guidance adds to a training step of the same model on the same batch."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timing import Timing, interleave
from torch import Tensor
from train_step import SMALL, make_classifier

from agcam.data.batch import Batch
from agcam.training.classifier import ViTClassifier
from agcam.training.guidance import guided_forward, guided_objects


def guided(options: argparse.Namespace) -> Iterator[tuple[str, int, dict[str, Timing]]]:
    """Time steps without guidance, with all images guided, and with a tenth of them, at least one."""
    large = make_classifier(options.model)
    small = make_classifier("vit_tiny_patch16_224", image_size=64, backbone_args=SMALL)
    for case, classifier, count in (
        (f"{options.model}, batch {options.batch}", large, options.batch),
        ("4 blocks of width 128 at 64 pixels, batch 32", small, 32),
    ):
        classifier.to(options.device).train()
        optimizer = torch.optim.AdamW(classifier.parameters(), lr=1e-5)
        size = classifier.input_config.size
        batches = {
            "no guidance": _batch(size, count, 0, options.device),
            "guided": _batch(size, count, count, options.device),
            "a tenth guided": _batch(size, count, max(1, count // 10), options.device),
        }
        step = partial(_steps, classifier, optimizer, options)
        runs: dict[str, Any] = {name: partial(step, batch) for name, batch in batches.items()}
        yield case, options.steps * count, interleave(runs, options.rounds, options.device)


def _steps(
    classifier: ViTClassifier, optimizer: torch.optim.Optimizer, options: argparse.Namespace, batch: Batch
) -> None:
    for _ in range(options.steps):
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            logits, outside = guided_forward(classifier, batch.image, guided_objects(batch, "boxes"))
            loss: Tensor = (F.cross_entropy(logits, batch.label, reduction="none") + 0.5 * outside).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()


def _batch(size: int, count: int, annotated: int, device: str) -> Batch:
    """Make a batch of noise whose first images have a box of a quarter of their area."""
    image, label = torch.randn(count, 3, size, size), torch.randint(200, (count,))
    made = Batch(image, label, [None] * count, [None] * count, None, torch.arange(count), ["noise"] * count)
    box = torch.tensor([[size / 4, size / 4, size * 3 / 4, size * 3 / 4]])
    known = range(annotated)
    rest = [None] * (count - annotated)
    boxed = replace(made, boxes=[*(box for _ in known), *rest], box_labels=[*(label[k : k + 1] for k in known), *rest])
    return boxed.to(device)
