"""torchrun over two nodes, which share this machine's loopback: one run, the same figures as one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agcam.cli.train import main
from command_lines import SMALL, TINY_MODEL
from processes import free_port
from reading import csv_rows

ROOT = Path(__file__).parents[2]


def command(folder: Path, batch_size: int) -> list[str]:
    return [
        "fit",
        *SMALL,
        *TINY_MODEL,
        "--trainer.max_epochs=1",
        f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {folder}, name: ''}}}}",
        "--data=Shapes",
        "--data.train_size=13",
        "--data.val_size=7",
        f"--data.batch_size={batch_size}",
        "--data.num_workers=0",
        "--explanation.ground_truth=masks",
    ]


def test_two_nodes_train_as_one_process_does_and_write_one_log(tmp_path: Path) -> None:
    meeting = ["--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{free_port()}", "--rdzv_id=test"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", *meeting]
    spread = ["--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    nodes = [
        subprocess.Popen([*torchrun, "train.py", *command(tmp_path / "two", 2), *spread], cwd=ROOT, env=environment)
        for _ in range(2)
    ]
    try:
        assert main(command(tmp_path / "one", 4)) == 0
        assert [node.wait(200) for node in nodes] == [0, 0]
    finally:
        for node in nodes:
            node.kill()
    assert [p.name for p in (tmp_path / "two").iterdir()] == ["version_0"]
    one, two = (csv_rows(tmp_path / name / "version_0" / "metrics.csv") for name in ("one", "two"))
    assert len(one) == len(two) == 1
    assert one[0]["val/loc/count"] == 7
    assert two[0] == pytest.approx(one[0], abs=1e-5)
