"""Ctrl-C once is a clean stop that says how to go on, with exit status 130; twice ends the command at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from agcam.console.interrupt import INTERRUPTED, interruptible
from benchmark.small_benchmarks import write_checkpoint
from faults import FAULT
from processes import Started, start
from test_kill_nine import assert_whole, figures, rows
from test_resume import command, same, weights


def until(ready: Callable[[], object], process: Started, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert process.process.is_alive(), process.printed
        assert time.monotonic() < end, process.printed
        time.sleep(0.01)


def test_ctrl_c_stops_a_fit_that_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = start(command(tmp_path / "whole"), tmp_path / "printed")
    stopped = start(command(tmp_path), tmp_path / "printed_stopped", {FAULT: "interrupt:7"})
    assert (whole.wait(), stopped.wait()) == (0, INTERRUPTED), stopped.printed
    (line,) = (line for line in stopped.printed.splitlines() if line.startswith("interrupted. "))
    last = tmp_path / "version_0/checkpoints/last.ckpt"
    assert line == f"interrupted. To go on: the same command with --ckpt_path last ({last})"
    assert "Traceback" not in stopped.printed
    assert_whole(tmp_path / "version_0")
    assert not list(tmp_path.glob("version_0/**/*.part"))
    again = start(command(tmp_path, "--ckpt_path=last"), tmp_path / "printed_again")
    assert again.wait() == 0, again.printed
    assert same(weights(tmp_path / "version_1"), weights(tmp_path / "whole/version_0"))
    assert {**rows(tmp_path)} == rows(tmp_path / "whole")


def test_ctrl_c_before_any_checkpoint_says_so(tmp_path: Path) -> None:
    stopped = start(command(tmp_path), tmp_path / "printed", {FAULT: "interrupt:1"})
    assert stopped.wait() == INTERRUPTED, stopped.printed
    assert "interrupted. No checkpoint was written yet: the same command begins anew" in stopped.printed


def test_a_second_ctrl_c_ends_a_fit_at_once(tmp_path: Path) -> None:
    # what has to be finished takes a minute
    stopped = start(command(tmp_path), tmp_path / "printed", {FAULT: "interrupt_slow:7"})
    until(lambda: "interrupted." in stopped.printed, stopped)
    began = time.monotonic()
    assert stopped.process.pid is not None
    os.kill(stopped.process.pid, signal.SIGINT)
    assert stopped.wait(20) == INTERRUPTED, stopped.printed
    assert time.monotonic() - began < 5
    assert_whole(tmp_path / "version_0")


@pytest.mark.slow  # two processes that import everything: 20 s on two cores
def test_ctrl_c_in_a_terminal_stops_all_processes(tmp_path: Path) -> None:
    more = ["--data.batch_size=2", "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=1000"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": "src:tests"}
    with (tmp_path / "printed").open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, "train.py", *command(tmp_path, *more, workers=0)],
            cwd=Path(__file__).parent.parent,
            env=environment,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
    while not list(tmp_path.glob("version_0/checkpoints/last.ckpt")):
        assert process.poll() is None, (tmp_path / "printed").read_text()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == INTERRUPTED
    lines = [x for x in (tmp_path / "printed").read_text().splitlines() if x.startswith(("interrupted", "error"))]
    assert len(lines) == 1
    assert "To go on: the same command with --ckpt_path last" in lines[0]
    listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    group = [state for number, state in map(str.split, listed.splitlines()) if int(number) == process.pid]
    assert all(state.startswith("Z") for state in group)


def benchmark(checkpoint: Path, output: Path, printed: Path, devices: int) -> Started:
    model = ["benchmark", "--device", "cpu", "--checkpoint", str(checkpoint), "--output", str(output)]
    more = ["--methods", "agcam", "--metrics", "pointing_game", "--quiet", "--devices", str(devices)]
    return start([*model, *more, "--data", "Shapes", "--data.val_size", "600"], printed, module="agcam.cli.explain")


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_stops_a_benchmark_that_goes_on(devices: int, times: int, tmp_path: Path) -> None:
    checkpoint, output = write_checkpoint(tmp_path / "model.ckpt"), tmp_path / "output"
    stopped = benchmark(checkpoint, output, tmp_path / "printed", devices)
    until(lambda: list(output.glob("shards/*.npz")), stopped)
    assert stopped.process.pid is not None
    for _ in range(times):
        os.kill(stopped.process.pid, signal.SIGINT)
        time.sleep(0.01)
    assert stopped.wait(20) == INTERRUPTED, stopped.printed
    if times == 1:
        assert stopped.printed.splitlines() == ["interrupted; the same command goes on where it was"]
    assert "Traceback" not in stopped.printed
    assert_whole(output)
    left = {path: path.stat().st_mtime_ns for path in output.glob("shards/*.npz")}
    assert 0 < len(left) < 10
    again = benchmark(checkpoint, output, tmp_path / "printed_again", 1)
    assert again.wait() == 0, again.printed
    assert {path: path.stat().st_mtime_ns for path in left} == left
    whole = benchmark(checkpoint, tmp_path / "whole", tmp_path / "printed_whole", 1)
    assert whole.wait() == 0
    assert figures(output) == figures(tmp_path / "whole")


def _hang(marker: Path) -> None:
    with interruptible():
        try:
            marker.touch()
            time.sleep(1000)
        finally:
            marker.unlink()
            time.sleep(1000)


def test_a_second_ctrl_c_does_not_wait_for_anything(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    hanging = start(["--help"], tmp_path / "printed", before=partial(_hang, marker))
    until(marker.exists, hanging)
    assert hanging.process.pid is not None
    os.kill(hanging.process.pid, signal.SIGINT)
    until(lambda: not marker.exists(), hanging)
    os.kill(hanging.process.pid, signal.SIGINT)
    assert hanging.wait(5) == INTERRUPTED
