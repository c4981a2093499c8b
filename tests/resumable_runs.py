"""Fits that are killed and resumed, and their weights."""

from __future__ import annotations

from pathlib import Path

import torch

from command_lines import SMALL, TINY_MODEL


def command(folder: Path, *more: str, workers: int = 1, logger: str = "CSVLogger") -> list[str]:
    """Two epochs of five steps with all that is random: augmentation, dropped paths, mixed images."""
    every_second = "{class_path: ModelCheckpoint, init_args: {every_n_train_steps: 2, save_top_k: -1, save_last: true}}"
    best = "{class_path: ModelCheckpoint, init_args: {monitor: val/loss, filename: best}}"
    return [
        "fit",
        *SMALL,
        *TINY_MODEL,
        "--model.drop_path=0.2",
        "--model.mixup=0.4",
        "--model.ema=0.9",
        "--seed_everything=5",
        "--trainer.max_epochs=2",
        "--trainer.log_every_n_steps=1",
        f"--trainer.callbacks=[{every_second}, {best}, {{class_path: faults.Fault}}]",
        f"--trainer.logger={{class_path: {logger}, init_args: {{save_dir: {folder}, name: ''}}}}",
        "--data=Shapes",
        "--data.train_size=21",
        "--data.val_size=9",
        "--data.batch_size=4",
        f"--data.num_workers={workers}",
        "--explanation.ground_truth=masks",
        "--explanation.gallery=0",
        *more,
    ]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / "checkpoints" / "last.ckpt")["state_dict"]
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
