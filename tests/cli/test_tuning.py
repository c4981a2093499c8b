"""Finding settings: Lightning's tuner as commands, a W&B sweep and an Optuna study."""

from __future__ import annotations

import csv
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import wandb
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy, SingleDeviceStrategy
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args, load_sweep_config

from agcam.callbacks.failure import check_strategy
from agcam.cli.train import main
from agcam.errors import InputError
from command_lines import SMALL, TINY_MODEL
from reading import wandb_run

ROOT = Path(__file__).parents[2]


def tune(name: str, folder: Path, *more: str) -> int:
    logger = "{class_path: %s, init_args: {save_dir: %s, name: ''}}"
    data = ["--data=Shapes", "--data.train_size=40", "--data.val_size=8", "--data.batch_size=4"]
    return main(
        [
            name,
            *SMALL,
            *TINY_MODEL,
            "--trainer.max_epochs=1",
            f"--trainer.default_root_dir={folder}",
            f"--trainer.logger=[{logger % ('CSVLogger', folder)}, {logger % ('WandbLogger', folder)}]",
            *data,
            "--data.num_workers=0",
            *more,
        ]
    )


def test_lr_find_suggests_a_rate_and_leaves_a_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune("lr_find", tmp_path, "--num_training=30", "--max_lr=1.0") == 0
    suggested = re.search(r"suggested: --model\.lr (\S+)", capsys.readouterr().out)
    assert suggested
    assert 1e-6 < float(suggested[1]) < 1
    with (tmp_path / "version_0" / "lr_find.csv").open() as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file)]
    assert len(rates) > 12  # over several of the epochs of ten steps that `max_epochs` would end after one
    assert rates == sorted(rates)
    assert (tmp_path / "version_0" / "lr_find.png").stat().st_size > 1000


def test_scale_batch_size_prints_the_largest_that_it_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune("scale_batch_size", tmp_path, "--max_val=17", "--steps_per_trial=1") == 0
    assert "largest batch: --data.batch_size 16" in capsys.readouterr().out
    assert (tmp_path / "version_0" / "scale_batch_size.csv").read_text().splitlines() == [
        "batch_size,max_val",
        "16,17",
    ]


def test_tuning_leaves_no_run_behind(tmp_path: Path) -> None:
    assert tune("scale_batch_size", tmp_path, "--max_val=4", "--steps_per_trial=1") == 0
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"version_0/scale_batch_size.csv"}


def test_too_few_steps_for_a_suggestion_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune("lr_find", tmp_path, "--num_training=5") == 2
    assert re.search(r"error: .*5 steps are too few .* give a larger --num_training", capsys.readouterr().err)


@pytest.mark.parametrize("strategy", [FSDPStrategy, ModelParallelStrategy])
def test_explaining_spread_weights_is_refused_with_the_way_out(strategy: Any) -> None:
    with pytest.raises(InputError, match=rf"{strategy.__name__} spreads the weights .* \(--explain false\)"):
        check_strategy(strategy())


def test_explaining_whole_weights_is_not_refused() -> None:
    for strategy in (DDPStrategy(), SingleDeviceStrategy()):
        check_strategy(strategy)


def test_a_run_without_explanations_has_none(tmp_path: Path) -> None:
    logger = f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {tmp_path}}}}}"
    assert tune("validate", tmp_path, "--explain=false", logger) == 0
    header = next(tmp_path.rglob("metrics.csv")).read_text().splitlines()[0]
    assert "val/accuracy" in header
    assert "val/loc" not in header


def test_the_wandb_sweep_starts_a_fit_with_its_settings(
    cub_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_sweep_config(str(ROOT / "sweeps/cub200_wandb.yaml"))
    assert found is not None
    assert found["metric"]["name"] == "val/accuracy"
    swept = {name: {"value": _example(space)} for name, space in found["parameters"].items()}
    parts = create_sweep_command_args({"args": swept}) | {
        "env": ["/usr/bin/env"],
        "interpreter": ["python"],
        "program": [found["program"]],
    }
    command: list[str] = []
    for part in found["command"]:  # as `wandb agent` does
        command += parts[part[2:-1]] if part.startswith("${") else [part]
    assert command[:4] == ["/usr/bin/env", "python", "train.py", "fit"]
    small = ["--model.pretrained=false", f"--data.root={cub_root}", "--data.batch_size=8", "--data.num_workers=0"]
    short = ["--trainer.max_epochs=1", "--trainer.precision=32", f"--trainer.logger.init_args.save_dir={tmp_path}"]
    monkeypatch.chdir(ROOT)
    assert main([*command[3:], *SMALL, *TINY_MODEL[:-1], *small, *short]) == 0
    wandb.finish()
    history, config = wandb_run(tmp_path)
    assert any("val/accuracy" in row for row in history)
    assert config["model"]["lr"] == swept["model.lr"]["value"]


def _example(space: dict[str, Any]) -> Any:
    return space["values"][-1] if "values" in space else space["max"]


def test_the_optuna_study_goes_on_with_a_second_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = [*SMALL, *TINY_MODEL, "--trainer.max_epochs=1", "--trainer.limit_train_batches=2"]
    data = ["--data.val_size=8", "--data.batch_size=4", "--data.num_workers=0", "--explain=false"]
    for _ in range(2):
        command = ["optuna_shapes.py", "--trials=1", f"--output={tmp_path}", "--", *tiny, *data]
        monkeypatch.setattr("sys.argv", command)
        runpy.run_path(str(ROOT / "sweeps/optuna_shapes.py"), run_name="__main__")
        best = re.search(r"best: \d\.\d{3} with --model\.lr=\S+ --model\.weight_decay=", capsys.readouterr().out)
        assert best
    assert {p.name for p in tmp_path.iterdir()} == {"study.db", "trial_000", "trial_001"}
