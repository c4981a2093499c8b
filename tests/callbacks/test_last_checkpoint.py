"""`last.ckpt` is the last state: with the callbacks of every recipe, on runs that have stopped improving."""

from __future__ import annotations

import signal
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from agcam.cli.train import main
from command_lines import SMALL, TINY_MODEL
from faults import FAULT
from processes import start
from reading import csv_rows

RECIPES = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
EPOCHS = 6
STEPS = 2
"""In an epoch."""


def recipe(path: Path, folder: Path, *more: str) -> list[str]:
    """A recipe with its own callbacks, validating as often, on data and a model of a second; it learns nothing."""
    metrics = {"val/mAP": "true", "val/accuracy": "false"}
    (monitored,) = (name for name in metrics if name in path.read_text())
    return [
        "fit",
        f"--config={path}",
        *SMALL,
        *TINY_MODEL,
        "--model.pretrained=false",
        "--model.lr=0.0",
        "--trainer.precision=32-true",
        f"--trainer.max_epochs={EPOCHS}",
        "--trainer.limit_train_batches=1.0",
        "--trainer.accumulate_grad_batches=1",
        f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {folder}, name: ''}}}}",
        "--trainer.log_every_n_steps=1",
        "--data=Shapes",
        f"--data.multilabel={metrics[monitored]}",
        f"--data.train_size={4 * STEPS}",
        "--data.val_size=4",
        "--data.batch_size=4",
        "--data.num_workers=0",
        "--data.cache=null",
        "--data.augmentation={}",
        "--explain=false",
        *more,
    ]


class Lag(L.Callback):
    """At the start of each epoch: how many epochs the run would lose if it were killed now."""

    found: list[int] = []  # noqa: RUF012  # the command makes the callback; the test looks here

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        (last,) = Path(trainer.checkpoint_callbacks[0].dirpath).glob("last*.ckpt") if trainer.current_epoch else [None]
        done = 0 if last is None else torch.load(last)["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        self.found.append(trainer.current_epoch - done)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_that_stops_improving_has_its_last_epoch_in_last_ckpt(path: Path, tmp_path: Path) -> None:
    Lag.found.clear()
    assert main(recipe(path, tmp_path, "--trainer.callbacks+=test_last_checkpoint.Lag")) == 0
    assert Lag.found == [0] * EPOCHS
    checkpoints = tmp_path / "version_0/checkpoints"
    assert sorted(p.name for p in checkpoints.iterdir()) == ["best.ckpt", "last.ckpt"]
    validated = yaml.safe_load(path.read_text())["trainer"].get("check_val_every_n_epoch", 1)
    assert torch.load(checkpoints / "best.ckpt")["global_step"] == validated * STEPS  # the best is the first


KILLED = (EPOCHS - 1) * STEPS + 1
SHORT = [path for path in RECIPES if path.stem in ("quickstart", "cub200_scratch_full")]  # validating each, and rarely


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.stem, marks=[] if p in SHORT else pytest.mark.slow) for p in RECIPES]
)
def test_a_recipe_that_was_killed_after_it_stopped_improving_resumes_in_that_epoch(path: Path, tmp_path: Path) -> None:
    fault = "--trainer.callbacks+=faults.Fault"
    killed = start(recipe(path, tmp_path, fault), tmp_path / "printed", {FAULT: f"kill:{KILLED}"})
    assert killed.wait() == -signal.SIGKILL, killed.printed
    again = start(recipe(path, tmp_path, fault, "--ckpt_path=last"), tmp_path / "printed_again")
    assert again.wait() == 0, again.printed
    was, resumed = (csv_rows(tmp_path / f"version_{number}" / "metrics.csv") for number in range(2))
    print(f"{path.stem}: killed in epoch {KILLED // STEPS}, resumed in epoch {resumed[0]['epoch']:.0f}")  # noqa: T201  # -rP shows it
    assert was[-1]["step"] in (KILLED - 1, KILLED - 2)
    assert resumed[0]["epoch"] == KILLED // STEPS
    assert [row["epoch"] for row in resumed if "train/loss" in row] == [EPOCHS - 1] * STEPS


def saver(**args: object) -> str:
    return f"{{class_path: ModelCheckpoint, init_args: {yaml.safe_dump(args, default_flow_style=True).strip()}}}"


def last_step(folder: Path) -> int:
    step: int = torch.load(folder / "version_0/checkpoints/last.ckpt")["global_step"]
    return step


SHORTEST = next(path for path in RECIPES if path.stem == "quickstart")
BEST = {"monitor": "val/accuracy", "mode": "max", "save_last": True}


@pytest.mark.parametrize(
    ("args", "more", "stopped", "last"),
    [
        ({"every_n_train_steps": 1}, [], 1, 1),  # nothing that is monitored was logged yet
        ({"every_n_train_steps": 3}, [], 11, 9),
        ({"every_n_epochs": 2}, [], 11, 8),
        ({"train_time_interval": "0:00:00"}, [], 1, 1),
        ({"save_top_k": 0}, [], 11, 10),
        ({"save_top_k": 0, "monitor": None}, [], 11, 10),
        ({"save_last": "link"}, [], 11, 10),
        ({}, ["--trainer.val_check_interval=1"], 11, 11),  # in the midst of epochs
        ({"save_on_train_epoch_end": True}, ["--trainer.val_check_interval=1"], 11, 10),
        ({}, ["--trainer.limit_val_batches=0"], 11, 10),
        ({"save_on_exception": True}, [], 11, 11),
    ],
    ids=str,
)
def test_last_is_the_last_that_was_due(
    args: dict[str, object], more: list[str], stopped: int, last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAULT, f"raise:{stopped}")
    callbacks = f"--trainer.callbacks=[{saver(**BEST | args)}, {{class_path: faults.Fault}}]"
    assert main(recipe(SHORTEST, tmp_path, callbacks, *more)) == 1  # an error of nobody's expectation
    assert last_step(tmp_path) == last


@pytest.mark.parametrize(
    "args",
    [{}, {"every_n_train_steps": 4, "monitor": None}, {"every_n_train_steps": 100}, {"every_n_epochs": 4}],
    ids=str,
)
def test_the_end_of_a_run_is_in_last_ckpt(args: dict[str, object], tmp_path: Path) -> None:
    epochs = "--trainer.max_epochs=5"
    callbacks = f"--trainer.callbacks={saver(**BEST | args)}"
    assert main(recipe(SHORTEST, tmp_path, callbacks, epochs)) == 0
    assert last_step(tmp_path) == 5 * STEPS
    longer = ["--trainer.max_epochs=7", "--ckpt_path=last"]  # where training resumes
    assert main(recipe(SHORTEST, tmp_path, callbacks, *longer)) == 0
    again = csv_rows(tmp_path / "version_1/metrics.csv")
    assert [(row["epoch"], row["step"]) for row in again if "train/loss" in row] == [(5, 10), (5, 11), (6, 12), (6, 13)]


def test_what_links_to_every_checkpoint_still_does(tmp_path: Path) -> None:
    links = saver(save_last="link", filename="{step}")
    assert main(recipe(SHORTEST, tmp_path, f"--trainer.callbacks={links}", "--trainer.max_epochs=2")) == 0
    last = tmp_path / "version_0/checkpoints/last.ckpt"
    assert last.is_symlink()
    assert last.resolve().name == "step=4.ckpt"


def test_two_that_save_their_last_in_one_folder_keep_one_each(tmp_path: Path) -> None:
    both = [saver(**BEST), saver(monitor="val/loss", save_last=True, filename="loss")]
    assert main(recipe(SHORTEST, tmp_path, f"--trainer.callbacks=[{', '.join(both)}]")) == 0
    checkpoints = tmp_path / "version_0/checkpoints"
    steps = {path.name: torch.load(path)["global_step"] for path in checkpoints.iterdir()}
    last = EPOCHS * STEPS
    assert steps == {"epoch=0-step=2.ckpt": 2, "loss.ckpt": 2, "last.ckpt": last, "last-v1.ckpt": last}


def test_a_run_resumed_in_the_same_folder_has_one_last_checkpoint(tmp_path: Path) -> None:
    callbacks = f"--trainer.callbacks={saver(**BEST, dirpath=str(tmp_path / 'kept'))}"
    for epochs, more in ((2, []), (3, ["--ckpt_path=last"])):
        assert main(recipe(SHORTEST, tmp_path, callbacks, f"--trainer.max_epochs={epochs}", *more)) == 0
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["epoch=0-step=2.ckpt", "last.ckpt"]
    assert torch.load(tmp_path / "kept/last.ckpt")["global_step"] == 3 * STEPS


class Told(CSVLogger):
    """Takes down what a logger that uploads checkpoints is given: which one is the best, which the last."""

    told: list[tuple[str, str]] = []  # noqa: RUF012  # the command makes the logger; the test looks here

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        best, last = checkpoint_callback.best_model_path, checkpoint_callback.last_model_path
        self.told.append((Path(best).name, Path(last).name))


def test_loggers_learn_which_checkpoint_is_best_and_which_is_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Told.told.clear()
    logger = f"--trainer.logger={{class_path: test_last_checkpoint.Told, init_args: {{save_dir: {tmp_path}}}}}"
    assert main(recipe(SHORTEST, tmp_path, logger, "--trainer.max_epochs=2")) == 0
    best = "best.ckpt"
    assert Told.told == [(best, ""), (best, "last.ckpt"), (best, "last.ckpt")]
    assert f"  {tmp_path}/version_0/checkpoints/{best}" in capsys.readouterr().out.partition("last ")[0]
