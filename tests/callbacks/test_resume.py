"""A run that is killed goes on where it was, and the same seed is the same run."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import resource
import signal
import time
from pathlib import Path

import pytest
import torch
import wandb

from agcam.cli.train import main
from agcam.errors import OutputError
from agcam.training.checkpoint_io import AtomicCheckpointIO
from faults import FAULT
from processes import Started, start, start_together
from reading import csv_rows
from resumable_runs import command, same, weights

STEPS_PER_EPOCH = 5


def rows(folder: Path) -> list[dict[str, float]]:
    """What was logged, less the drift of heatmaps since the epoch before, which a new process has not seen."""
    logged = csv_rows(folder / "metrics.csv")
    return [{name: value for name, value in row.items() if not name.endswith("/drift")} for row in logged]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    run = start(command(folder), folder / "printed")
    assert run.wait() == 0, run.printed
    return folder / "version_0"


STEP = random.Random(20261123).randrange(3, 10)


@pytest.mark.parametrize("fault", [f"kill:{STEP}", "kill_in_save:5"])
def test_a_killed_run_goes_on_bit_for_bit(fault: str, uninterrupted: Path, tmp_path: Path) -> None:
    run = start(command(tmp_path), tmp_path / "printed", {FAULT: fault})
    assert run.wait() == -signal.SIGKILL, run.printed
    again = start(command(tmp_path, "--ckpt_path=last"), tmp_path / "printed_again")
    assert again.wait() == 0, again.printed
    before, after, expected = (rows(f) for f in (tmp_path / "version_0", tmp_path / "version_1", uninterrupted))
    assert 0 < len(after) < len(expected)
    assert after == expected[-len(after) :]
    assert before == expected[: len(before)]
    assert same(weights(tmp_path / "version_1"), weights(uninterrupted))


def test_a_checkpoint_of_the_last_step_before_validation_validates(uninterrupted: Path, tmp_path: Path) -> None:
    checkpoint = uninterrupted / "checkpoints" / f"epoch=1-step={2 * STEPS_PER_EPOCH}.ckpt"
    assert main(command(tmp_path, f"--ckpt_path={checkpoint}", workers=0)) == 0
    assert rows(tmp_path / "version_0") == rows(uninterrupted)[-1:]


def test_the_best_checkpoint_before_the_kill_stays_the_best(uninterrupted: Path, tmp_path: Path) -> None:
    best = torch.load(uninterrupted / "checkpoints" / "last.ckpt")["callbacks"]
    checkpoint = uninterrupted / "checkpoints" / f"epoch=1-step={STEPS_PER_EPOCH + 1}.ckpt"
    assert main(command(tmp_path, f"--ckpt_path={checkpoint}", workers=0)) == 0
    found = torch.load(tmp_path / "version_0" / "checkpoints" / "last.ckpt")["callbacks"]
    (key,) = (key for key in best if "val/loss" in key)
    assert found[key]["best_model_score"] == best[key]["best_model_score"]


def test_one_seed_is_one_run_whatever_the_workers(uninterrupted: Path, tmp_path: Path) -> None:
    assert main(command(tmp_path / "same", workers=0)) == 0
    assert (tmp_path / "same/version_0/metrics.csv").read_text() == (uninterrupted / "metrics.csv").read_text()
    assert same(weights(tmp_path / "same/version_0"), weights(uninterrupted))
    assert main(command(tmp_path / "other", "--seed_everything=6", "--trainer.max_epochs=1", workers=0)) == 0
    other, one = (rows(folder)[0] for folder in (tmp_path / "other/version_0", uninterrupted))
    assert other["train/loss"] != one["train/loss"]


def test_an_offline_wandb_run_keeps_its_id(tmp_path: Path) -> None:
    logger = f"--trainer.logger={{class_path: WandbLogger, init_args: {{save_dir: {tmp_path}, offline: true}}}}"
    wandb.finish()  # whatever ran before in this process: the logger would join it
    for more in (["--trainer.max_epochs=1"], ["--ckpt_path=last"]):
        assert main(command(tmp_path, logger, *more, workers=0)) == 0
        wandb.finish()
        time.sleep(1.1)  # W&B names a run's folder by the second
    files = sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert files[0].name == files[1].name


def test_a_wandb_run_that_goes_on_keeps_the_metrics_it_had(tmp_path: Path) -> None:
    logger = f"{{class_path: WandbLogger, init_args: {{save_dir: {tmp_path}, offline: true, id: one, project: p}}}}"
    checkpoint = f"--ckpt_path={tmp_path}/p/one/checkpoints/last.ckpt"
    found = []
    for more in (["--trainer.max_epochs=1"], [checkpoint]):
        assert main(command(tmp_path, f"--trainer.logger={logger}", *more, workers=0)) == 0
        wandb.finish()
        found.append(rows(tmp_path / "p/one"))
    assert found[1][: STEPS_PER_EPOCH + 1] == found[0]
    assert found[1][-1]["epoch"] == 1


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    return line


def test_last_without_any_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(tmp_path, "--ckpt_path=last")) == 2
    assert re.search(rf"no last\.ckpt below {tmp_path}.*start without it", the_error(capsys))


def test_a_truncated_checkpoint_is_refused_and_the_previous_named(
    uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (uninterrupted / "checkpoints" / "last.ckpt").read_bytes()
    for age, (path, content) in enumerate(
        [
            ("version_1/checkpoints/last.ckpt", whole[: len(whole) // 2]),
            ("version_0/checkpoints/last.ckpt", whole),
            ("version_0/checkpoints/epoch=0-step=2.ckpt", whole),
        ]
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
        os.utime(tmp_path / path, (10_000 - age, 10_000 - age))
    for given in ("last", str(tmp_path / "version_1/checkpoints/last.ckpt")):
        assert main(command(tmp_path, f"--ckpt_path={given}")) == 2
        said = the_error(capsys)
        assert "version_1/checkpoints/last.ckpt: not a whole checkpoint" in said
        assert said.endswith(f"--ckpt_path {tmp_path}/version_0/checkpoints/last.ckpt")


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    writer, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    writer.save_checkpoint({"step": 1}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError, match=rf"{path}: cannot be written \(File too large"):
            writer.save_checkpoint({"step": torch.zeros(1000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.load(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_exception_at_any_moment_of_a_save_is_only_an_exception(tmp_path: Path) -> None:
    saving = multiprocessing.get_context("forkserver").Process(
        target=_save_under_alarms, args=(tmp_path / "last.ckpt",)
    )
    saving.start()
    assert Started(saving, tmp_path / "printed").wait() == 0  # -6 is an abort by torch's writer
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def _save_under_alarms(path: Path) -> None:
    """Save often, each time with an exception from a signal's handler a little later, as of a killed loader worker."""

    def gone(*_: object) -> None:
        raise RuntimeError("a worker is gone")

    signal.signal(signal.SIGALRM, gone)
    state, stopped = {"state_dict": {str(number): torch.zeros(10) for number in range(30)}}, 0
    for number in range(2000):
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-5 + number * 1.5e-6)
            AtomicCheckpointIO().save_checkpoint(state, path)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except RuntimeError:
            stopped += 1
        assert not path.exists() or torch.load(path)["state_dict"].keys() == state["state_dict"].keys()
    assert stopped > 100
    AtomicCheckpointIO().save_checkpoint(state, path)


@pytest.mark.slow  # four processes of their own: 40 s on two cores
def test_two_killed_processes_go_on_bit_for_bit(tmp_path: Path) -> None:
    more = ["--data.batch_size=2"]
    whole = start_together(command(tmp_path / "whole", *more), tmp_path / "whole", 2)
    assert [run.wait() for run in whole] == [0, 0], whole[0].printed
    os.environ[FAULT] = "kill:7"
    try:
        killed = start_together(command(tmp_path / "killed", *more), tmp_path / "killed", 2)
        assert killed[0].wait() == -signal.SIGKILL
        assert killed[1].wait() != 0
    finally:
        del os.environ[FAULT]
    again = start_together(command(tmp_path / "killed", *more, "--ckpt_path=last"), tmp_path / "again", 2)
    assert [run.wait() for run in again] == [0, 0], again[0].printed
    after, expected = (rows(tmp_path / name) for name in ("killed/version_1", "whole/version_0"))
    assert after == expected[-len(after) :]
    assert same(weights(tmp_path / "killed/version_1"), weights(tmp_path / "whole/version_0"))
