"""A state that no checkpoint can hold is refused by name before it is written; NumPy's numbers are plain ones."""

from __future__ import annotations

import argparse
import enum
import io
from collections import Counter, OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from agcam.cli.train import main
from agcam.errors import InputError
from agcam.training.checkpoint_io import AtomicCheckpointIO
from agcam.training.plain_state import plain
from agcam.training.weights import read_checkpoint
from resumable_runs import command
from small_runs import classifier, shapes, trainer_of


@dataclass
class Best:
    score: float


class Mode(enum.StrEnum):
    MAX = "max"


Point = namedtuple("Point", "x y")

VALUES = [
    Path("best.ckpt"),
    argparse.Namespace(a=1),
    Best(0.5),
    Mode.MAX,
    Point(1, 2),
    timedelta(seconds=1),
    defaultdict(list, a=[1]),
    Counter("ab"),
    {1, 2},
    {Path("a")},
    np.arange(3),
    np.datetime64("2026-11-24"),
    np.longdouble(0.1),
    torch.Size([1, 2]),
    torch.float32,
    torch.device("cpu"),
    torch.arange(3),
    torch.nn.Parameter(torch.ones(2)),
    OrderedDict(a=torch.ones(1)),
    1 + 2j,
    b"bytes",
    2**70,
    print,
    type,
    lambda: 0,
    object(),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [{"a": (value,)}]], ids=["alone", "within"])
def test_what_torch_does_not_read_again_is_refused_and_nothing_else(value: Any, wrap: Any) -> None:
    file = io.BytesIO()
    try:
        torch.save(wrap(value), file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:
        with pytest.raises(InputError, match=f"state is a {type(value).__module__}.{type(value).__qualname__}, which"):
            plain({"callbacks": {"Mine{'a': 1}": {"best": wrap(value)}}})
    else:
        assert plain(wrap(value)) is not None


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.int64, np.uint8, np.bool_, np.str_])
def test_numpy_scalars_become_the_python_numbers_that_they_equal(kind: type[np.generic], tmp_path: Path) -> None:
    value = kind(0.1)
    state = {"a": OrderedDict(b=[value, (value, torch.ones(2))]), value: 1, "c": [1.0]}
    AtomicCheckpointIO().save_checkpoint({"callbacks": {"Mine": state}}, tmp_path / "a.ckpt")
    found = read_checkpoint(tmp_path / "a.ckpt")["callbacks"]["Mine"]
    number = found["a"]["b"][0]
    assert type(number) in (float, int, bool, str)
    assert number == value
    assert number == value.item()
    assert list(found) == ["a", value.item(), "c"]
    assert type(state["a"]["b"][0]) is kind  # its owner's own
    kept = plain(state)
    assert kept["c"] is state["c"]
    assert kept["a"]["b"][1][1] is state["a"]["b"][1][1]


def test_nan_stays_nan_and_metadata_of_a_state_dict_stay(tmp_path: Path) -> None:
    state = torch.nn.Linear(2, 2).state_dict()
    state["extra"] = np.float64("nan")
    AtomicCheckpointIO().save_checkpoint({"state_dict": state}, tmp_path / "a.ckpt")
    found = read_checkpoint(tmp_path / "a.ckpt")["state_dict"]
    assert found["extra"] != found["extra"]
    assert found._metadata == state._metadata
    assert torch.equal(found["weight"], state["weight"])


class Keeps(L.Callback):
    """A callback of somebody's, whose state is of a kind; at once, or once there is a best one."""

    def __init__(self, late: bool = False, kind: str = "Path") -> None:
        self.late, self.kind, self.trained, self.loaded = late, kind, 0, None

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.late = False
        self.trained += 1
        print("an epoch was trained")  # noqa: T201  # the test reads it

    def state_dict(self) -> dict[str, Any]:
        kinds = {"Path": Path("best.ckpt"), "float64": np.float64(self.trained) / 3}
        return {"best": {"where": None if self.late else kinds[self.kind]}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        print(f"loaded {state_dict}")  # noqa: T201  # as above


def test_a_state_that_cannot_be_resumed_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path, "--trainer.callbacks+=test_plain_state.Keeps", workers=0)) == 2
    printed = capsys.readouterr()
    (line,) = (line for line in printed.err.splitlines() if line.startswith("error: "))
    assert line.startswith("error: Keeps, a callback: best.where of its state is a pathlib.PosixPath, which no check")
    assert "an epoch was trained" not in printed.out
    assert not list(tmp_path.glob("**/*.ckpt"))


def test_a_state_that_becomes_one_is_refused_at_its_first_save(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keeps = "--trainer.callbacks+={class_path: test_plain_state.Keeps, init_args: {late: true}}"
    assert main(command(tmp_path, keeps, workers=0)) == 2
    printed = capsys.readouterr()
    (line,) = (line for line in printed.err.splitlines() if line.startswith("error: "))
    assert "Keeps, a callback: best.where of its state is a pathlib.PosixPath" in line
    assert f"To resume: the same command with --ckpt_path last ({tmp_path}/version_0/checkpoints/last.ckpt)" in line
    assert printed.out.count("an epoch was trained") == 1
    assert torch.load(tmp_path / "version_0/checkpoints/last.ckpt")["global_step"] == 4
    assert not list(tmp_path.glob("**/*.part"))


def test_a_state_of_numpys_numbers_is_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keeps = "--trainer.callbacks+={class_path: test_plain_state.Keeps, init_args: {kind: float64}}"
    assert main(command(tmp_path, keeps, "--trainer.max_epochs=1", workers=0)) == 0
    assert main(command(tmp_path, keeps, "--ckpt_path=last", workers=0)) == 0
    assert f"loaded {{'best': {{'where': {1 / 3}}}}}" in capsys.readouterr().out


def saving(folder: Path) -> L.Trainer:
    return trainer_of(folder, ModelCheckpoint(folder), max_epochs=1, plugins=[AtomicCheckpointIO()])


def test_a_learning_rate_of_numpys_is_a_hyperparameter_like_any(tmp_path: Path) -> None:
    trainer = saving(tmp_path)
    trainer.fit(classifier(lr=np.float64(0.001)), datamodule=shapes())
    found = read_checkpoint(Path(trainer.checkpoint_callback.best_model_path))
    assert type(found["hyper_parameters"]["lr"]) is float
    assert found["hyper_parameters"]["lr"] == 0.001


def test_hyperparameters_states_of_data_and_what_a_model_adds_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier()
    model.hparams["mine"] = {"where": tmp_path}
    with pytest.raises(InputError, match=r"^the hyperparameter mine\.where is a pathlib\.PosixPath"):
        saving(tmp_path).fit(model, datamodule=shapes())
    data = shapes()
    monkeypatch.setattr(data, "state_dict", lambda: {"seen": [tmp_path]})
    with pytest.raises(InputError, match=r"^Shapes\.seen\.0 of the checkpoint is a pathlib\.PosixPath"):
        saving(tmp_path).fit(classifier(), datamodule=data)
    model = classifier()
    monkeypatch.setattr(model, "on_save_checkpoint", lambda checkpoint: checkpoint.update(mine={"a": {tmp_path}}))
    with pytest.raises(InputError, match=r"^mine\.a of the checkpoint is a builtins\.set"):
        saving(tmp_path).fit(model, datamodule=shapes())
    assert not list(tmp_path.glob("*.ckpt"))
