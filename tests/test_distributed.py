"""Two real processes print the same figures as one, on a set that does not divide evenly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SMALL, TINY_MODEL
from reading import csv_rows

ROOT = Path(__file__).parent.parent


def validate(folder: Path, devices: int, root: Path, command: str = "validate", *more: str) -> dict[str, float]:
    arguments = [
        command,
        *SMALL,
        *TINY_MODEL,
        "--seed_everything=1",
        f"--trainer.devices={devices}",
        f"--trainer.strategy={'ddp' if devices > 1 else 'auto'}",
        f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {folder}, name: ''}}}}",
        "--data=CUB200",
        f"--data.root={root}",
        "--data.batch_size=4",
        "--data.num_workers=0",
        "--explanation.methods=[agcam, center]",
        "--explanation.ground_truth=masks",
        *more,
    ]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "train.py", *arguments], cwd=ROOT, env=environment, check=True, timeout=240)
    return csv_rows(folder / "version_0" / "metrics.csv")[-1]


def test_two_processes_print_what_one_prints(cub_root: Path, tmp_path: Path) -> None:
    one = validate(tmp_path / "one", 1, cub_root)
    two = validate(tmp_path / "two", 2, cub_root)
    assert one["val/loc/count"] == two["val/loc/count"] == 13
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert two[name] == pytest.approx(value, abs=1e-6), name
    shown = [sorted(p.name for p in (tmp_path / n / "version_0/explanations").rglob("0*.png")) for n in ("one", "two")]
    assert shown[0] == shown[1]
    assert len(shown[0]) == 13


def test_two_processes_train_explain_and_save_one_run(cub_root: Path, tmp_path: Path) -> None:
    row = validate(tmp_path, 2, cub_root, "fit", "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1")
    assert row["val/loc/count"] == 13
    assert len(list((tmp_path / "version_0" / "checkpoints").glob("*.ckpt"))) == 1
