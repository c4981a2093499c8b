"""What training prints on a terminal and in a log: the results, and nothing about the tools."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agcam.cli.own_command import own_command
from command_lines import TINY_MODEL

ROOT = Path(__file__).parents[2]
DATA = ["--data=Shapes", "--data.train_size=12", "--data.val_size=6", "--data.batch_size=4", "--data.num_workers=0"]
LOGGERS = (
    "[{class_path: CSVLogger, init_args: {save_dir: runs, name: ''}}, "
    "{class_path: WandbLogger, init_args: {save_dir: runs, offline: true}}]"
)
BEST = "{class_path: ModelCheckpoint, init_args: {monitor: val/loss, filename: best, save_last: true}}"
NOISE = ("Tip:", "wandb:", "deprecated", "FLOPs", "v_num", "Seed set", "GPU available", "site-packages", "`max_epochs")
NOISE += ("Mixed Precision", "WARNING:")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return tmp_path_factory.mktemp("terminal")


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    """What a short run prints on a terminal of 150 columns."""
    command = [sys.executable, ROOT / "train.py", "fit", *TINY_MODEL, *DATA, "--trainer.accelerator=cpu"]
    command += ["--trainer.precision=bf16-mixed", "--trainer.max_epochs=2"]
    command += [f"--trainer.logger={LOGGERS}", f"--trainer.callbacks=[{BEST}]"]
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("WANDB_SILENT", "NO_COLOR", "CI")}
    environment |= {"TERM": "xterm", "COLUMNS": "150", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as run:
        os.close(theirs)
        said = b""
        while part := _read(ours):
            said += part
    os.close(ours)
    assert run.returncode == 0, said.decode()
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode()).replace("\r", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other side is closed
        return b""


def test_nothing_is_printed_about_the_tools(printed: str) -> None:
    assert [line for line in printed.splitlines() if any(noise in line for noise in NOISE)] == []


def test_epochs_are_counted_from_1(printed: str) -> None:
    assert set(re.findall(r"Epoch \d+/\d+", printed)) == {"Epoch 1/2", "Epoch 2/2"}


def test_accuracies_of_the_sanity_check_are_not_shown(printed: str) -> None:
    assert "val/accuracy" in printed
    first = printed.index("Epoch 1/2")
    assert "val/" not in printed[first : printed.index("Validation", first)]


def test_the_model_is_described_in_a_line(printed: str) -> None:
    (line,) = (line for line in printed.splitlines() if line.startswith("model "))
    assert re.fullmatch(r"model +vit_tiny_patch16_224, 32 × 32 pixels, 8 classes, [\d.]+ K parameters", line.strip())


def test_the_table_has_arrows_controls_and_intervals(printed: str) -> None:
    assert "pixel accuracy ↑" in printed
    for method in ("agcam", "random (control)", "center (control)"):
        (row,) = re.findall(rf"^│ {re.escape(method)} .*$", printed, re.MULTILINE)
        assert len(re.findall(r"\d\.\d{3} ±\d\.\d{3}", row)) == 6


def test_the_best_and_the_last_checkpoint_have_their_figures(printed: str, folder: Path) -> None:
    best = re.search(r"^best +epoch ([12]): val/loss (\d\.\d{3}) +(\S+best\.ckpt)", printed, re.MULTILINE)
    last = re.search(r"^last +epoch 2: val/accuracy \d\.\d{3} · .*val/loss \d\.\d{3} +(\S+)", printed, re.MULTILINE)
    assert best is not None
    assert last is not None
    assert (folder / best[3]).is_file()
    assert (folder / last[1]).name == "last.ckpt"
    assert (folder / last[1]).is_file()
    losses = [line.split(",") for line in (folder / "runs/version_0/metrics.csv").read_text().splitlines()]
    column = losses[0].index("val/loss")
    found = [float(row[column]) for row in losses[1:] if row[column]]
    assert float(best[2]) == pytest.approx(min(found), abs=0.00051)
    assert int(best[1]) == found.index(min(found)) + 1


def test_the_next_command_works_where_it_is_printed(printed: str, folder: Path) -> None:
    (command,) = re.findall(r"^next +(.*)$", printed, re.MULTILINE)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "CUDA_VISIBLE_DEVICES": ""}
    small = " --limit 4 --methods agcam random --metrics pointing_game"
    done = subprocess.run(
        command.strip() + small, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^report +(\S+)$", done.stdout, re.MULTILINE) == ["results/report.html"]
    assert "pointing game ↑" in done.stdout
    assert re.search(r"random \(control\) *│ +\d\.\d{3} *│", done.stdout)
    assert re.search(r"\[\d\.\d{3}, \d\.\d{3}\]", done.stdout)


@pytest.mark.parametrize(
    ("called", "on_path", "expected"),
    [
        ("agcam", True, "agcam"),
        ("train.py", True, "agcam"),
        ("train.py", False, "bin/python train.py"),
        ("agcam", False, "bin/python -m agcam"),
    ],
)
def test_commands_to_run_next_are_called_as_this_one_was(
    called: str, on_path: bool, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / "bin" / name) if on_path else None)
    assert own_command() == expected
