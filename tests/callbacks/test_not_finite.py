"""A loss of NaN: the run stops before it reaches weights and checkpoints, or leaves the step out and counts it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from agcam.callbacks.non_finite import _finite
from agcam.cli.train import main
from command_lines import SMALL, TINY_MODEL
from faults import FAULT
from processes import start_together
from reading import column, csv_rows

STEPS = 5  # of an epoch


def command(folder: Path, *more: str) -> list[str]:
    every = "{class_path: ModelCheckpoint, init_args: {every_n_train_steps: 1, save_top_k: -1, save_last: true}}"
    return [
        "fit",
        *SMALL,
        *TINY_MODEL,
        "--seed_everything=5",
        "--trainer.max_epochs=2",
        "--trainer.log_every_n_steps=1",
        f"--trainer.callbacks=[{every}, {{class_path: faults.Fault}}]",
        f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {folder}, name: ''}}}}",
        "--data=Shapes",
        "--data.train_size=21",
        "--data.val_size=4",
        "--data.batch_size=4",
        "--data.num_workers=0",
        "--explain=false",
        *more,
    ]


def checkpoint(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    found: dict[str, dict[str, torch.Tensor]] = torch.load(folder / "checkpoints" / "last.ckpt")
    return found


def assert_whole(weights: dict[str, torch.Tensor]) -> None:
    assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("nan_pixels:7", r"the loss is not finite for train_\d{6}\. "),
        ("nan_gradient:7", r"the gradients are not finite, though every image's loss is\. "),
    ],
)
def test_a_step_of_nan_stops_the_run_before_it_is_taken(
    fault: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(FAULT, fault)
    assert main(command(tmp_path)) == 2
    (line,) = re.findall(r"^error: .*", capsys.readouterr().err, re.MULTILINE)
    last = tmp_path / "version_0/checkpoints/last.ckpt"
    assert re.match(rf"error: epoch 2, batch 2 \(step 7\): {said}", line)
    assert "The step was not taken and no checkpoint holds it" in line
    assert line.endswith(f"--on_nan skip. To resume: the same command with --ckpt_path last ({last})")
    found = checkpoint(tmp_path / "version_0")
    assert found["global_step"] == 7
    assert_whole(found["state_dict"])
    monkeypatch.setenv(FAULT, "")
    assert main(command(tmp_path, "--ckpt_path=last")) == 0


@pytest.mark.parametrize(
    ("more", "logged"),
    [([], [2.0, 2.0]), (["--trainer.gradient_clip_val=0.5", "--trainer.accumulate_grad_batches=2"], [1.0, 2.0])],
)
def test_steps_of_nan_are_skipped_and_counted(
    more: list[str],
    logged: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(FAULT, "nan_pixels:2:0:2")  # from step 2 on, two of them
    assert main(command(tmp_path, "--on-nan=skip", *more)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("skipped: epoch") == 2
    assert "2 training steps were skipped: their loss or gradients were not finite" in printed
    rows = csv_rows(tmp_path / "version_0/metrics.csv")
    assert column(rows, "train/skipped_steps") == logged
    assert_whole(checkpoint(tmp_path / "version_0")["state_dict"])
    assert math.isfinite(column(rows, "val/loss")[-1])


def test_a_skipped_step_changes_no_weight_and_no_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAULT, "nan_pixels:4")
    assert main(command(tmp_path, "--on_nan=skip", "--trainer.max_epochs=1")) == 0
    before, after = (
        torch.load(tmp_path / f"version_0/checkpoints/epoch=0-step={step}.ckpt") for step in (STEPS - 1, STEPS)
    )
    assert all(torch.equal(value, after["state_dict"][name]) for name, value in before["state_dict"].items())
    (one,), (other,) = before["optimizer_states"], after["optimizer_states"]
    assert one["state"].keys() == other["state"].keys() != set()
    for number, state in one["state"].items():
        assert all(torch.equal(value, other["state"][number][name]) for name, value in state.items())


def test_the_count_goes_on_in_a_run_that_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(FAULT, "nan_pixels:2")
    assert main(command(tmp_path, "--on_nan=skip", "--trainer.max_epochs=1")) == 0
    monkeypatch.setenv(FAULT, "nan_pixels:6")
    assert main(command(tmp_path, "--on_nan=skip", "--ckpt_path=last")) == 0
    assert column(csv_rows(tmp_path / "version_1/metrics.csv"), "train/skipped_steps")[-1] == 2


def test_an_epoch_without_any_finite_step_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(FAULT, "nan_pixels:5:0:5")
    assert main(command(tmp_path, "--on_nan=skip")) == 2
    (line,) = re.findall(r"^error: .*", capsys.readouterr().err, re.MULTILINE)
    assert f"epoch 2: none of its {STEPS} steps was finite" in line


def test_all_processes_stop_where_one_has_nan(tmp_path: Path) -> None:
    both = start_together(command(tmp_path, "--data.batch_size=2"), tmp_path, 2, {FAULT: "nan_pixels:7:1"})
    assert [process.wait() for process in both] == [2, 2]
    (line,) = re.findall(r"^error: .*", "".join(process.printed for process in both), re.MULTILINE)
    assert re.match(
        r"error: process [01] of 2: epoch 2, batch 2 \(step 7\): the loss is not finite for train_\d{6}\. The", line
    )
    assert_whole(checkpoint(tmp_path / "version_0")["state_dict"])


def test_all_processes_skip_what_one_has_to_skip(tmp_path: Path) -> None:
    both = start_together(
        command(tmp_path, "--data.batch_size=2", "--on_nan=skip"), tmp_path, 2, {FAULT: "nan_pixels:7:1"}
    )
    assert [process.wait() for process in both] == [0, 0], both[0].printed
    assert "skipped: epoch 2, batch 2 (step 7): the loss is not finite for train_" in both[0].printed
    assert column(csv_rows(tmp_path / "version_0/metrics.csv"), "train/skipped_steps") == [0.0, 1.0]
    assert_whole(checkpoint(tmp_path / "version_0")["state_dict"])


@pytest.mark.parametrize(("value", "finite"), [(1e30, True), (-3e38, True), (math.inf, False), (math.nan, False)])
def test_large_numbers_are_finite(value: float, finite: bool) -> None:
    numbers = torch.tensor([1.0, value, value])
    assert _finite([], [numbers, torch.ones(2)]) == finite
    assert _finite([numbers], []) == finite
