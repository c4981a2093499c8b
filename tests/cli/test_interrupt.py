"""Ctrl-C, SIGTERM, SIGHUP: once is a clean stop that says how to go on, with its exit status; twice ends at once."""

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
import torch
from PIL import Image

from agcam.cli.train import TrainCLI, main
from agcam.console.interrupt import INTERRUPTED, TERMINATED, interruptible
from benchmark.small_benchmarks import write_checkpoint
from faults import FAULT, Fault, on_a_terminal
from processes import Started, start, start_together
from resumable_runs import command, same, weights
from whole_files import assert_whole, figures, rows


def until(ready: Callable[[], object], process: Started, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert process.process.is_alive(), process.printed
        assert time.monotonic() < end, process.printed
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    run = start(command(folder), folder / "printed")
    assert run.wait() == 0, run.printed
    return folder


def said(printed: str) -> str:
    """The one line that says that a run was stopped."""
    (line,) = (line for line in printed.splitlines() if line.startswith(("interrupted", "error")))
    assert "Traceback" not in printed
    return line


@pytest.mark.parametrize(("fault", "status"), [("interrupt:7", INTERRUPTED), ("terminate:7", TERMINATED)])
def test_a_stopped_fit_goes_on_bit_for_bit(fault: str, status: int, whole: Path, tmp_path: Path) -> None:
    stopped = start(command(tmp_path), tmp_path / "printed", {FAULT: fault})
    assert stopped.wait() == status, stopped.printed
    last = tmp_path / "version_0/checkpoints/last.ckpt"
    assert said(stopped.printed) == f"interrupted. To resume: the same command with --ckpt_path last ({last})"
    assert_whole(tmp_path / "version_0")
    assert not list(tmp_path.glob("version_0/**/*.part"))
    again = start(command(tmp_path, "--ckpt_path=last"), tmp_path / "printed_again")
    assert again.wait() == 0, again.printed
    assert same(weights(tmp_path / "version_1"), weights(whole / "version_0"))
    assert {**rows(tmp_path)} == rows(whole)


@pytest.mark.parametrize(("fault", "status"), [("interrupt:1", INTERRUPTED), ("terminate:1", TERMINATED)])
def test_a_stop_before_any_checkpoint_says_so(
    fault: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(FAULT, fault)
    assert main(command(tmp_path, workers=0)) == status
    assert said(capsys.readouterr().err) == "interrupted. No checkpoint was written yet: the same command starts over"


@pytest.mark.parametrize("moment", ["parse_arguments", "instantiate_trainer"])
def test_sigterm_before_there_is_a_trainer_stops_the_command(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def terminate(*args: object, **kwargs: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr(TrainCLI, moment, terminate)
    assert main(command(tmp_path, workers=0)) == TERMINATED
    assert said(capsys.readouterr().err) == "interrupted."
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("name", ["fit", "validate", "test"])
def test_sigterm_while_a_model_is_validated(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(FAULT, "terminate_validation:1")
    if name == "test":
        monkeypatch.setattr(Fault, "on_test_batch_start", Fault.on_validation_batch_start)
    assert main([name, *command(tmp_path, workers=0)[1:]]) == TERMINATED
    begins = " No checkpoint was written yet: the same command starts over"  # it does before it trains
    assert said(capsys.readouterr().err) == f"interrupted.{begins if name == 'fit' else ''}"


def test_a_terminal_that_closes_stops_a_fit(tmp_path: Path) -> None:
    stopped = start(command(tmp_path, workers=0), tmp_path / "printed", {FAULT: "hang_up:7"}, before=on_a_terminal)
    assert stopped.wait() == 128 + signal.SIGHUP, stopped.printed
    assert_whole(tmp_path / "version_0")
    assert not list(tmp_path.glob("version_0/**/*.part"))


def test_both_processes_stop_at_sigterm(tmp_path: Path) -> None:
    more = ["--data.batch_size=2", "--trainer.max_epochs=1000"]
    both = start_together(command(tmp_path, *more, workers=0), tmp_path, 2)
    until(lambda: list(tmp_path.glob("version_0/checkpoints/last.ckpt")), both[0])
    for run in both:
        assert run.process.pid is not None
        os.kill(run.process.pid, signal.SIGTERM)
    assert [run.wait(60) for run in both] == [TERMINATED, TERMINATED], both[0].printed + both[1].printed
    last = tmp_path / "version_0/checkpoints/last.ckpt"
    assert said(both[0].printed) == f"interrupted. To resume: the same command with --ckpt_path last ({last})"
    assert "interrupted" not in both[1].printed
    assert_whole(tmp_path / "version_0")


def test_slurm_requeues_and_ends_a_job(tmp_path: Path) -> None:
    """SIGUSR1 before the time is up saves and requeues; SIGTERM ends the run after the batch; neither is broken off."""
    queue = tmp_path / "bin/scontrol"
    queue.parent.mkdir()
    # the requeued job is terminated at once, and what was called has more to do
    queue.write_text(f"#!/bin/sh\nkill -TERM $PPID\nsleep 0.2\necho $@ >> {tmp_path}/called\n")
    queue.chmod(0o755)
    slurm = {"NTASKS": "1", "JOB_ID": "12", "JOB_NAME": "cub", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    environment = {f"SLURM_{name}": value for name, value in slurm.items()} | {FAULT: "requeue:7"}
    environment["PATH"] = f"{queue.parent}:{os.environ['PATH']}"
    root = f"--trainer.default_root_dir={tmp_path}"
    run = start(command(tmp_path, root, workers=0), tmp_path / "printed", environment)
    assert run.wait() == TERMINATED, run.printed
    assert (tmp_path / "called").read_text() == "requeue 12\n"
    assert torch.load(tmp_path / "hpc_ckpt_1.ckpt")["global_step"] == 7
    assert said(run.printed).startswith("interrupted. To resume: the same command with --ckpt_path last (")
    last = torch.load(tmp_path / "version_0/checkpoints/last.ckpt")
    assert last["global_step"] == 8  # the batch was finished


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


@pytest.mark.slow  # two processes that import everything: 20 s on two cores each
@pytest.mark.parametrize(
    ("number", "send", "status"),
    [
        pytest.param(signal.SIGINT, os.killpg, INTERRUPTED, id="ctrl_c_in_a_terminal"),
        pytest.param(signal.SIGTERM, os.killpg, TERMINATED, id="sigterm_to_all"),
        pytest.param(signal.SIGTERM, os.kill, TERMINATED, id="sigterm_to_the_first"),
        pytest.param(signal.SIGHUP, os.killpg, 128 + signal.SIGHUP, id="sighup_to_all"),
    ],
)
def test_a_signal_stops_all_processes(
    number: signal.Signals, send: Callable[[int, int], None], status: int, tmp_path: Path
) -> None:
    more = ["--data.batch_size=2", "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=1000"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": "src:tests"}
    with (tmp_path / "printed").open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, "train.py", *command(tmp_path, *more, workers=0)],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
    while not list(tmp_path.glob("version_0/checkpoints/last.ckpt")):
        assert process.poll() is None, (tmp_path / "printed").read_text()
        time.sleep(0.05)
    send(process.pid, number)
    assert process.wait(60) == status
    line = said((tmp_path / "printed").read_text())
    assert "To resume: the same command with --ckpt_path last" in line
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
        assert stopped.printed.splitlines() == ["interrupted; run the same command again to resume"]
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


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])  # processes that import everything
def test_sigterm_stops_a_benchmark_with_its_processes(devices: int, tmp_path: Path) -> None:
    checkpoint, output = write_checkpoint(tmp_path / "model.ckpt"), tmp_path / "output"
    stopped = benchmark(checkpoint, output, tmp_path / "printed", devices)
    until(lambda: list(output.glob("shards/*.npz")), stopped)
    assert stopped.process.pid is not None
    os.kill(stopped.process.pid, signal.SIGTERM)
    assert stopped.wait(20) == TERMINATED, stopped.printed
    assert stopped.printed.splitlines() == ["interrupted; run the same command again to resume"]
    assert_whole(output)


def test_sigterm_stops_explaining_photographs(tmp_path: Path) -> None:
    checkpoint, photos, output = write_checkpoint(tmp_path / "model.ckpt"), tmp_path / "photos", tmp_path / "output"
    photos.mkdir()
    for number in range(400):
        Image.new("RGB", (40, 40), (number % 256, 0, 0)).save(photos / f"{number}.png")
    images = ["images", "--device=cpu", f"--checkpoint={checkpoint}", f"--input={photos}", f"--output={output}"]
    stopped = start([*images, "--quiet"], tmp_path / "printed", module="agcam.cli.explain")
    until(lambda: list(output.glob("*.npz")), stopped)
    assert stopped.process.pid is not None
    os.kill(stopped.process.pid, signal.SIGTERM)
    assert stopped.wait(20) == TERMINATED, stopped.printed
    assert stopped.printed == "interrupted; run the same command again to resume\n"
    assert_whole(output)


def _hang(marker: Path) -> None:
    with interruptible():
        try:
            marker.touch()
            time.sleep(1000)
        finally:
            marker.unlink()
            time.sleep(1000)


@pytest.mark.parametrize(
    ("signals", "status"),
    [
        ([signal.SIGINT, signal.SIGINT], INTERRUPTED),
        ([signal.SIGTERM, signal.SIGINT], INTERRUPTED),
        # the first two are one request: to the process, and to its group
        ([signal.SIGTERM, signal.SIGTERM, None, signal.SIGTERM], TERMINATED),
        ([signal.SIGINT, None, signal.SIGTERM], TERMINATED),
    ],
)
def test_a_second_request_does_not_wait_for_anything(
    signals: list[signal.Signals | None], status: int, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    hanging = start(["--help"], tmp_path / "printed", before=partial(_hang, marker))
    until(marker.exists, hanging)
    assert hanging.process.pid is not None
    first, *more = signals
    assert first is not None
    os.kill(hanging.process.pid, first)
    until(lambda: not marker.exists(), hanging)
    for number in more:
        assert hanging.process.is_alive()
        if number is None:
            time.sleep(1.1)
        else:
            os.kill(hanging.process.pid, number)
    assert hanging.wait(5) == status
