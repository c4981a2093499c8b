"""Lightning's own callbacks that people add: a run with all of them is killed, resumed bit for bit, and reported."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
import torch

from faults import FAULT
from processes import start
from reading import csv_rows, page_data
from resumable_runs import command, same, weights

STOCK = [
    "{class_path: LearningRateMonitor, init_args: {log_weight_decay: true}}",
    "{class_path: EarlyStopping, init_args: {monitor: val/loss, patience: 9, min_delta: 0.5}}",
    "{class_path: Timer, init_args: {duration: '00:12:00:00', interval: step}}",
    "{class_path: DeviceStatsMonitor, init_args: {cpu_stats: true}}",
    "{class_path: StochasticWeightAveraging, init_args: {swa_lrs: 0.002, swa_epoch_start: 3, annealing_epochs: 2}}",
    "RichModelSummary",
]
BY_EPOCH = "{class_path: ModelCheckpoint, init_args: {monitor: val/accuracy, mode: max, save_last: true}}"  # recipes'
BY_STEP = "{class_path: ModelCheckpoint, init_args: {every_n_train_steps: 2, save_last: true}}"
EPOCHS = 5
STEPS = 5
"""In an epoch."""


def with_all(folder: Path, *more: str, saving: str = BY_EPOCH) -> list[str]:
    added = [f"--trainer.callbacks+={callback}" for callback in STOCK]
    own = [f"--trainer.callbacks=[{saving}, {{class_path: faults.Fault}}]", "--explanation.gallery=2"]
    more = (*own, *added, "--model.ema=0.0", f"--trainer.max_epochs={EPOCHS}", *more)
    return command(folder, *more, workers=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run = start(with_all(folder), folder / "printed")
    assert run.wait() == 0, run.printed
    return folder / "version_0"


def logged(folder: Path) -> dict[tuple[str, float], float]:
    """Every figure by name and step, less what tells of the device and of maps seen before."""
    rows = csv_rows(folder / "metrics.csv")
    own = ("epoch", "step")
    return {
        (name, row["step"]): value
        for row in rows
        for name, value in row.items()
        if name not in own and not name.startswith("DeviceStats") and not name.endswith("/drift")
    }


def test_a_run_with_them_ends_with_averaged_weights_and_a_report(whole: Path) -> None:
    last = torch.load(whole / "checkpoints/last.ckpt")
    (state,) = (state for key, state in last["callbacks"].items() if key == "StochasticWeightAveraging")
    averaged = state["average_model_state"]
    parameters = [name for name in averaged if name.startswith("backbone.")]
    assert parameters
    assert all(torch.equal(last["state_dict"][name], averaged[name]) for name in parameters)
    assert state["n_averaged"] == 3  # of epochs 2, 3 and 4: Lightning counts swa_epoch_start from 1
    assert len(page_data(whole / "report.html")["images"]) == 2
    assert re.search(r"by step and has no curve here: DeviceStats.*, lr-AdamW", (whole / "report.html").read_text())
    assert any(name.startswith("DeviceStatsMonitor") for row in csv_rows(whole / "metrics.csv") for name in row)


@pytest.mark.parametrize(
    ("step", "saving"),
    [(8, BY_EPOCH), (17, BY_EPOCH), (17, BY_STEP)],
    ids=["before_averaging", "averaging", "mid_epoch"],
)
def test_a_killed_run_with_them_resumes_bit_for_bit(step: int, saving: str, whole: Path, tmp_path: Path) -> None:
    killed = start(with_all(tmp_path, saving=saving), tmp_path / "printed", {FAULT: f"kill:{step}"})
    assert killed.wait() == -signal.SIGKILL, killed.printed
    again = start(with_all(tmp_path, "--ckpt_path=last", saving=saving), tmp_path / "printed_again")
    assert again.wait() == 0, again.printed
    expected, found = logged(whole), logged(tmp_path / "version_1")
    assert found
    differing = {key: (value, expected.get(key)) for key, value in found.items() if value != expected.get(key)}
    assert differing == {}
    assert same(weights(tmp_path / "version_1"), weights(whole))
    kept = [torch.load(folder / "checkpoints/last.ckpt")["callbacks"] for folder in (tmp_path / "version_1", whole)]
    (key,) = (key for key in kept[0] if key.startswith("EarlyStopping"))
    assert kept[0][key] == kept[1][key]
    assert page_data(tmp_path / "version_1/report.html")
