"""Validation and test of one small model at several batch sizes, in one of several processes: `main` for `start`."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch

from agcam.callbacks.explanation import ExplanationCallback
from agcam.data.shapes import CLASSES, Shapes
from agcam.training.classifier import ViTClassifier
from small_runs import TINY

IMAGES = 13
"""Divides into neither 2 nor 3 processes, nor into batches of 3."""
BATCHES = (1, 3, 64)
METHODS = ("agcam", "random", "center")


def model_of(multilabel: bool) -> ViTClassifier:
    """Logits around 0.5, of some images all in [0, 1]; four classes always have equal ones."""
    torch.manual_seed(0)
    model = ViTClassifier(
        "vit_tiny_patch16_224",
        image_size=32,
        backbone_args=TINY,
        class_names=CLASSES,
        multilabel=multilabel,
    )
    generator = torch.Generator().manual_seed(4)
    for parameter in model.backbone.parameters():
        if parameter.dim() > 1:  # fresh weights are too small for the logits to move
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.6
    head = model.backbone.head
    head.weight.data /= 6
    head.weight.data[3:7] = 0
    head.bias.data.fill_(0.5)
    return model.eval()


def data_of(multilabel: bool, batch_size: int = 1) -> Shapes:
    return Shapes(val_size=IMAGES, test_size=IMAGES, multilabel=multilabel, batch_size=batch_size, num_workers=0)


def figures(multilabel: bool, batch_size: int, processes: int, folder: Path, stage: str = "validate") -> dict[str, Any]:
    """All that is logged, and under "said" what is said of absent classes."""
    options: dict[str, Any] = {"strategy": "ddp", "devices": processes} if processes > 1 else {}
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[ExplanationCallback(METHODS, ground_truth="masks", gallery=0)],
        **options,
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        evaluate = trainer.validate if stage == "validate" else trainer.test
        found = evaluate(model_of(multilabel), datamodule=data_of(multilabel, batch_size), verbose=False)[0]
    return found | {"said": [str(w.message) for w in said if "mAP leaves out" in str(w.message)]}


def name_of(multilabel: bool, batch_size: int, stage: str) -> str:
    return f"{stage} {'multi' if multilabel else 'single'}-label in batches of {batch_size}"


def all_figures(processes: int, folder: Path) -> dict[str, dict[str, Any]]:
    """By name, those of every case; test at one batch size is enough, for it is the same code."""
    cases = [(multilabel, size, "validate") for multilabel in (False, True) for size in BATCHES]
    cases += [(multilabel, 3, "test") for multilabel in (False, True)]
    return {name_of(*case): figures(case[0], case[1], processes, folder, case[2]) for case in cases}


def main(arguments: Sequence[str]) -> int:
    """Write the figures of `folder` and the number of processes, the two arguments; the strategy's are left out."""
    folder, processes = Path(arguments[0]), int(arguments[1])
    found = all_figures(processes, folder)
    (folder / f"rank_{os.environ['RANK']}.json").write_text(json.dumps(found))
    return 0
