"""Real processes print what one prints, on sets that do not divide evenly, and end together when one fails."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agcam.cli.train import main
from command_lines import SMALL, TINY_MODEL
from faults import FAULT
from processes import Started, start_together
from reading import csv_rows

ROOT = Path(__file__).parents[2]
ERROR = re.compile(r"^error: .*$", re.MULTILINE)


def command(name: str, folder: Path, *more: str) -> list[str]:
    return [
        name,
        *SMALL,
        *TINY_MODEL,
        "--seed_everything=1",
        f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {folder}, name: ''}}}}",
        "--explanation.methods=[agcam, center]",
        *more,
        "--data.num_workers=0",
    ]


def shapes(size: int, batch_size: int = 4) -> list[str]:
    sizes = [f"--data.train_size={size}", f"--data.val_size={size}", f"--data.batch_size={batch_size}"]
    return ["--data=Shapes", *sizes, "--explanation.ground_truth=masks"]


def figures(folder: Path) -> dict[str, float]:
    return csv_rows(folder / "version_0" / "metrics.csv")[-1]


def assert_equal(two: dict[str, float], one: dict[str, float]) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert two[name] == pytest.approx(value, abs=1e-6), name


def wait(started: list[Started]) -> list[int]:
    return [process.wait() for process in started]


# 7 and 13 divide into neither two processes nor batches of four; of 9 images each process has a last batch of one
@pytest.mark.parametrize("size", [7, 9, 13])
def test_two_processes_print_what_one_prints(size: int, tmp_path: Path) -> None:
    two = start_together(command("validate", tmp_path / "two", *shapes(size)), tmp_path / "two", 2)
    assert main(command("validate", tmp_path / "one", *shapes(size))) == 0
    assert wait(two) == [0, 0], two[0].printed
    one = figures(tmp_path / "one")
    assert_equal(figures(tmp_path / "two"), one)
    assert one["val/loc/count"] == size
    shown = [sorted(p.name for p in (tmp_path / n / "version_0/explanations").rglob("0*.png")) for n in ("one", "two")]
    assert shown[0] == shown[1]
    assert len(shown[0]) == size


def test_a_process_without_any_box_changes_nothing(voc_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(voc_root, tmp_path / "VOC2012"))
    for name in (root / "ImageSets/Main/val.txt").read_text().split()[1::2]:  # the second process's
        path = root / "Annotations" / f"{name}.xml"
        path.write_text(re.sub(r"<object>.*</object>", "", path.read_text()))
    names = "--data.classes=[circle, square, triangle, star, cross, ring, crescent, heart]"
    data = ["--data=VOC2012", f"--data.root={root}", names, "--data.batch_size=4"]
    two = start_together(command("validate", tmp_path / "two", *data), tmp_path / "two", 2)
    assert main(command("validate", tmp_path / "one", *data)) == 0
    assert wait(two) == [0, 0], two[0].printed
    one = figures(tmp_path / "one")
    assert one["val/loc/count"] > 0
    assert_equal(figures(tmp_path / "two"), one)


def test_two_processes_train_as_one_does_on_whole_batches(tmp_path: Path) -> None:
    fit = ["--trainer.max_epochs=2", "--trainer.log_every_n_steps=1"]
    two = command("fit", tmp_path / "two", *shapes(13, batch_size=2), *fit)
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    launched = [sys.executable, "train.py", *two, "--trainer.devices=2", "--trainer.strategy=ddp"]
    with subprocess.Popen(launched, cwd=ROOT, env=environment) as process:
        assert main(command("fit", tmp_path / "one", *shapes(13, batch_size=4), *fit)) == 0
        assert process.wait(240) == 0
    one, two = (csv_rows(tmp_path / name / "version_0" / "metrics.csv") for name in ("one", "two"))
    assert one[-1]["step"] == 5
    assert sum("train/loss" in row for row in one) == 6  # the mean over both processes
    assert two == [pytest.approx(row, abs=1e-5) for row in one]
    assert [p.name for p in (tmp_path / "two").iterdir()] == ["version_0"]
    assert len(list((tmp_path / "two/version_0/checkpoints").glob("*.ckpt"))) == 1


def test_when_a_launched_process_fails_all_end_and_one_line_names_it(tmp_path: Path) -> None:
    faulty = ["--trainer.callbacks={class_path: faults.Fault}", "--trainer.devices=2", "--trainer.strategy=ddp"]
    arguments = command("fit", tmp_path, *shapes(13, batch_size=2), "--trainer.max_epochs=1", *faulty)
    environment = {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"tests{os.pathsep}src",
        FAULT: "raise:1:1",
    }
    with subprocess.Popen(
        [sys.executable, "train.py", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            _, printed = process.communicate(timeout=200)  # its end, and that of all who hold its stderr
        finally:
            still_running = _running(process.pid)
            if still_running:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != 0
    (line,) = ERROR.findall(printed)
    assert line.startswith("error: process 1 of 2: unexpected ValueError: the disk is full and more of it (at ")
    assert "faults.py:" in line
    assert not still_running


def _running(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_when_the_first_process_fails_the_others_do_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAULT, "raise:1:0")
    fault = "--trainer.callbacks={class_path: faults.Fault}"
    arguments = command("fit", tmp_path, *shapes(13, batch_size=2), "--trainer.max_epochs=1", fault)
    both = start_together(arguments, tmp_path, 2)
    first = both[0].wait()
    began = time.monotonic()
    second = both[1].wait(60)
    assert (first, second != 0) == (1, True)
    assert time.monotonic() - began < 30
    (cause,), (consequence,) = (ERROR.findall(process.printed) for process in both)
    assert cause.startswith("error: process 0 of 2: unexpected ValueError: the disk is full and more of it (at ")
    assert consequence.startswith("error: process 1 of 2: ended because process 0 is gone")


def test_more_processes_than_images_are_one_line(tmp_path: Path) -> None:
    both = start_together(command("validate", tmp_path, *shapes(1)), tmp_path, 2)
    assert wait(both) == [2, 2]
    (line,) = ERROR.findall("".join(process.printed for process in both))
    assert re.search(r"process [01] of 2: val: 1 images for 2 processes; each needs one, so start at most 1", line)
