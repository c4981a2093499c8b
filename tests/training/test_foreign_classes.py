"""Checkpoints that hold more than tensors and plain values: read where that runs nothing, else named."""

import argparse
import collections
import datetime
import functools
import os
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from agcam.cli.train import main
from agcam.errors import ModelError
from agcam.training.weights import load_weights, read_checkpoint, read_weights
from command_lines import SMALL, TINY_MODEL

ARGS = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 4}


def backbone() -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", **ARGS)


def schedule() -> Any:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    return torch.optim.lr_scheduler.StepLR(optimizer, 1)


FOREIGN: dict[str, Callable[[], Any]] = {
    r"numpy\._?core\.multiarray\.scalar": lambda: np.float64(71.5),
    r"numpy\._?core\.multiarray\._reconstruct": lambda: np.zeros(2),
    "pathlib.PosixPath": lambda: pathlib.PosixPath("runs"),
    "functools.partial": lambda: functools.partial(max, 1),
    "collections.defaultdict": lambda: collections.defaultdict(int),
    "datetime.datetime": lambda: datetime.datetime(2026, 1, 1),
    "torch.optim.lr_scheduler.StepLR": schedule,
    "torch.nn.modules.linear.Linear": lambda: nn.Linear(2, 2),
}


@pytest.mark.parametrize("zipped", [True, False])
def test_a_namespace_as_timms_training_leaves_it_is_read(zipped: bool, tmp_path: Path) -> None:
    weights = backbone().state_dict()
    options = argparse.Namespace(model="vit", lr=0.1, betas=(0.9, 0.95), more=argparse.Namespace(x=[1]))
    content = {"epoch": 3, "arch": "vit", "state_dict": weights, "args": options, "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    model = backbone()
    load_weights(model, tmp_path / "w.pth")
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert argparse.Namespace not in torch.serialization.get_safe_globals()  # it is allowed for this file alone


def test_a_namespace_of_other_things_is_not(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "args": argparse.Namespace(output=pathlib.PosixPath("runs"))}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w\.pth: .*: it also holds pathlib\.PosixPath, and reading such could run"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", list(FOREIGN))
def test_another_class_is_named(name: str, zipped: bool, tmp_path: Path) -> None:
    content = {"state_dict": {"x": torch.ones(1)}, "y": FOREIGN[name]()}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    for read in (read_weights, read_checkpoint):
        with pytest.raises(ModelError, match=rf"w\.pth: .* it also holds [^']*\b{name}\b.* and reading such") as error:
            read(tmp_path / "w.pth")
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 1000


def test_an_ordered_dictionary_is_plain(tmp_path: Path) -> None:
    torch.save(collections.OrderedDict(x=torch.ones(1)), tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth")["x"] == 1


@pytest.mark.parametrize("kind", ["wrapped", "bare", "module"])
def test_the_command_that_the_message_gives_converts_the_file(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "it's here"
    folder.mkdir()
    model = backbone()
    weights = model.state_dict()
    wrapped = {"model": weights, "metric": np.float64(71.5)}
    torch.save({"wrapped": wrapped, "bare": weights | {"t": np.float64(1)}, "module": model}[kind], folder / "w.pth")
    with pytest.raises(ModelError, match="write its tensors to a file for --model") as error:
        read_weights(folder / "w.pth")
    command = shlex.split(str(error.value)[str(error.value).index("python -c") :])
    subprocess.run([sys.executable, *command[1:]], check=True, cwd=tmp_path)
    other = backbone()
    load_weights(other, folder / "w.tensors.pth")
    assert all(torch.equal(value, weights[name]) for name, value in other.state_dict().items())


class _Call:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("function", "name"), [(os.mkdir, "posix.mkdir"), (os.system, "posix.system"), (eval, "eval")])
def test_an_attack_is_called_one_and_no_way_to_run_it_is_given(
    function: Any, name: str, zipped: bool, tmp_path: Path
) -> None:
    boom = tmp_path / "boom"
    argument = {"eval": f"__import__('os').mkdir({str(boom)!r})", "posix.system": f"mkdir {boom}"}.get(name, str(boom))
    content = {"args": argparse.Namespace(lr=1.0), "y": _Call(function, argument)}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    named = rf"loading it would call '[\w.]*{name}', .*: delete it$" if zipped else "w.pth"
    for read in (read_weights, read_checkpoint):
        with pytest.raises(ModelError, match=named):
            read(tmp_path / "w.pth")
    assert not boom.exists()


def test_a_checkpoint_to_resume_names_the_class_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": backbone().state_dict(), "args": argparse.Namespace(lr=1.0)}, tmp_path / "w.pth")
    data = ["--data=Shapes", "--data.train_size=8", "--data.val_size=4", "--data.num_workers=0"]
    output = ["--trainer.logger=false", f"--trainer.default_root_dir={tmp_path}"]
    assert main(["fit", *SMALL, *TINY_MODEL, *data, *output, f"--ckpt_path={tmp_path / 'w.pth'}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: {tmp_path / 'w.pth'}: not a whole checkpoint of tensors and plain values: it also ")
    assert "argparse.Namespace" in line
