"""What people see while a model trains: a bar on a terminal, lines in a log, nothing if they ask for quiet."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from command_lines import TINY_MODEL
from processes import start

ROOT = Path(__file__).parents[2]
DATA = ["--data=Shapes", "--data.train_size=24", "--data.val_size=9", "--data.batch_size=8", "--data.num_workers=0"]
FIT = ["--trainer.accelerator=cpu", "--trainer.max_epochs=2", *TINY_MODEL, *DATA, "--explanation.gallery=2"]


def command(folder: Path, name: str = "fit") -> list[str]:
    logger = f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {folder}, name: ''}}}}"
    return [name, *FIT, logger, *(["--trainer.log_every_n_steps=1"] if name == "fit" else [])]


def test_a_log_gets_a_line_for_each_epoch_then_the_table(tmp_path: Path) -> None:
    process = start(command(tmp_path), tmp_path / "printed")
    assert process.wait() == 0, process.printed
    lines = process.printed.splitlines()
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert re.match(r"epoch 1 of 2: \d+ s, \d+ s left, train/loss \d\.\d{3}, val/accuracy \d\.\d{3}", epochs[0])
    assert re.match(r"epoch 2 of 2: \d+ s, train/loss", epochs[1])
    assert len(epochs) == 2
    table = next(n for n, line in enumerate(lines) if "Where the model looks" in line)
    assert lines.index(epochs[1]) < table
    assert not any("━━ " in line for line in lines[table + 2 :])  # no bar
    assert "\x1b" not in process.printed


@pytest.mark.parametrize("name", ["validate", "test"])
def test_evaluation_ends_with_a_line(tmp_path: Path, name: str) -> None:
    process = start(command(tmp_path, name), tmp_path / "printed")
    assert process.wait() == 0, process.printed
    (line,) = [n for n in process.printed.splitlines() if "batches/s" in n]
    assert re.match(rf"{'validation' if name == 'validate' else 'test'}: (\d+) of \1 batches, ", line)


@pytest.mark.parametrize("name", ["fit", "validate"])
def test_quiet_runs_say_nothing_and_leave_everything(tmp_path: Path, name: str) -> None:
    process = start([*command(tmp_path / "run", name), "--quiet"], tmp_path / "printed")
    assert process.wait() == 0, process.printed
    # warnings of libraries are no progress; they name their file
    said = [line for line in process.printed.splitlines() if not line.startswith(("/", " "))]
    assert said == []
    assert (tmp_path / "run/version_0/metrics.csv").is_file()
    assert (tmp_path / "run/version_0/report.html").is_file() == (name == "fit")


@pytest.mark.parametrize("plain", [False, True])
def test_a_terminal_gets_a_bar_that_ends_before_the_table(tmp_path: Path, plain: bool) -> None:
    outer, inner = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm", "COLUMNS": "120"}
    environment |= {"PYTHONPATH": str(ROOT / "src"), "CUDA_VISIBLE_DEVICES": ""} | ({"NO_COLOR": "1"} if plain else {})
    process = subprocess.Popen(
        [sys.executable, "train.py", *command(tmp_path)], cwd=ROOT, env=environment, stdout=inner, stderr=inner
    )
    os.close(inner)
    printed = ""
    try:
        while part := os.read(outer, 65536):
            printed += part.decode(errors="replace")
    except OSError:  # the other side is closed
        pass
    assert process.wait(timeout=60) == 0, printed
    before, _, after = printed.partition("Where the model looks")
    bar = re.search(r"3/3.{1,20}\d:\d\d:\d\d • 0:00:00.{1,20}\d+\.\d\dit/s", before)  # time left, rate
    assert (bar is None) == plain
    assert ("epoch 2 of 2: " in before) == plain
    assert "it/s" not in after
    assert "report.html" in after
