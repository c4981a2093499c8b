"""Processes that vanish: a loader worker, one of several that train, one of several that compute a benchmark."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from benchmark.small_benchmarks import write_checkpoint
from faults import FAULT
from processes import start, start_together
from resumable_runs import command, same, weights
from whole_files import assert_whole, figures

ERROR = re.compile(r"^error: .*$", re.MULTILINE)
WITHIN = 30
"""Seconds in which the other processes end."""


def test_a_killed_loader_worker_is_one_line_and_the_run_goes_on(tmp_path: Path) -> None:
    run = start(command(tmp_path), tmp_path / "printed", {FAULT: "kill_worker:7"})
    whole = start(command(tmp_path / "whole"), tmp_path / "printed_whole")
    assert (run.wait(), whole.wait()) == (2, 0), run.printed
    (line,) = ERROR.findall(run.printed)
    assert re.match(r"error: DataLoader worker \(pid\(?s?\)? \d+\) .*; if memory ran out, take fewer: --data", line)
    assert line.endswith(f"--ckpt_path last ({tmp_path}/version_0/checkpoints/last.ckpt)")
    # the worker that is left may be in the middle of shaking hands, and Python says so itself
    assert all("resource_sharer.py" in text for text in run.printed.split("Traceback")[1:])
    assert_whole(tmp_path / "version_0")
    again = start(command(tmp_path, "--ckpt_path=last"), tmp_path / "printed_again")
    assert again.wait() == 0, again.printed
    assert same(weights(tmp_path / "version_1"), weights(tmp_path / "whole/version_0"))


@pytest.mark.parametrize("rank", [0, 1])
def test_when_one_process_is_killed_the_other_ends(rank: int, tmp_path: Path) -> None:
    more = ["--data.batch_size=2", "--data.num_workers=0"]
    both = start_together(command(tmp_path, *more), tmp_path, 2, {FAULT: f"kill:7:{rank}"})
    assert both[rank].wait() == -signal.SIGKILL
    began = time.monotonic()
    assert both[1 - rank].wait(WITHIN) != 0
    assert time.monotonic() - began < WITHIN
    (line,) = ERROR.findall(both[1 - rank].printed)
    assert line.startswith(f"error: process {1 - rank} of 2: ")
    assert_whole(tmp_path / "version_0")


def test_a_killed_process_of_a_benchmark_is_one_line_and_its_shards_are_kept(tmp_path: Path) -> None:
    checkpoint, output = write_checkpoint(tmp_path / "model.ckpt"), tmp_path / "output"
    arguments = ["benchmark", "--device=cpu", f"--checkpoint={checkpoint}", "--methods=agcam", "--quiet"]
    arguments += ["--metrics=pointing_game", "--data=Shapes", "--data.val_size=600"]
    run = start([*arguments, f"--output={output}", "--devices=2"], tmp_path / "printed", module="agcam.cli.explain")
    while not list(output.glob("shards/*.npz")):
        assert run.process.is_alive(), run.printed
        time.sleep(0.01)
    worker = max(_workers(run.process.pid))
    os.kill(worker, signal.SIGKILL)
    assert run.wait(WITHIN) == 2, run.printed
    (line,) = ERROR.findall(run.printed)
    assert re.search(r"process [01] of 2 stopped with exit status -9; finished shards are kept, run the same", line)
    assert_whole(output)
    for folder in (output, tmp_path / "whole"):
        again = start([*arguments, f"--output={folder}"], tmp_path / "printed_again", module="agcam.cli.explain")
        assert again.wait() == 0, again.printed
    assert figures(output) == figures(tmp_path / "whole")


def _workers(parent: int | None) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat, line = (path / "stat").read_text(), (path / "cmdline").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == parent and "spawn_main" in line:
            found.append(int(path.name))
    return found
