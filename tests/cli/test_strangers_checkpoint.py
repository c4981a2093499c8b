"""A checkpoint of plain values whose settings name a module: no door imports it (CVE-2026-58659)."""

import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from agcam.cli.explain import main as explain
from agcam.cli.train import main as train
from agcam.data.shapes import CLASSES
from agcam.training.classifier import ViTClassifier
from agcam.training.weights import read_checkpoint
from command_lines import SMALL, TINY_MODEL

SETTINGS: dict[str, Any] = {
    "backbone": "vit_tiny_patch16_224",
    "image_size": 32,
    "backbone_args": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    "class_names": CLASSES,
    "multilabel": False,
}
LIGHTNINGS = "lightning.pytorch.cli.instantiate_module"
MODULE = """
from pathlib import Path
Path({marker!r}).mkdir()
from agcam.training.classifier import ViTClassifier

class Stranger(ViTClassifier):
    pass

def make(*args, **kwargs):
    return Stranger()
"""
KINDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "instantiator": lambda module: {"_instantiator": f"{module}.make"},
    "class": lambda module: {"_class_path": f"{module}.Stranger"},
    "both": lambda module: {"_class_path": f"{module}.Stranger", "_instantiator": LIGHTNINGS},
    "list": lambda module: {"_instantiator": [f"{module}.make"]},
    "backbone": lambda module: {"backbone": f"{module}.Stranger"},
    "argument": lambda module: {
        "backbone_args": SETTINGS["backbone_args"] | {"norm_layer": f"{module}.Stranger", "act_layer": module},
    },
    "nested": lambda module: {"input": {"class_path": f"{module}.Stranger", "init_args": {}}},
    "loss": lambda module: {"loss": {"class_path": f"{module}.Stranger"}},
}
RESUMED = ("fit", "validate", "test")
ALL_DOORS = ("instantiator", "class", "both")


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """The name of a module, and a folder that appears when it is imported."""
    name = f"stranger_{tmp_path.name}"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / f"{name}.py").write_text(MODULE.format(marker=str(tmp_path / "boom")))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "argv", ["train.py"])
    return name, tmp_path / "boom"


def doors(path: Path, folder: Path) -> dict[str, Callable[[], Any]]:
    """All ways to open a checkpoint, each the command's status or what the call returns."""
    Image.new("RGB", (32, 32)).save(folder / "x.png")
    data = ["--data=Shapes", "--data.train_size=8", "--data.val_size=4", "--data.test_size=4", "--data.num_workers=0"]
    training = [*SMALL, *data, "--trainer.logger=false", f"--trainer.default_root_dir={folder}"]
    out = ["--output", str(folder / "out")]
    few = ["--methods", "random", "--metrics", "pointing_game", "--limit", "4", "--device", "cpu"]
    return {
        **{name: lambda name=name: train([name, *training, f"--ckpt_path={path}"]) for name in ("validate", "test")},
        "fit": lambda: train(["fit", *training, *TINY_MODEL, "--trainer.max_epochs=1", f"--ckpt_path={path}"]),
        "weights": lambda: train(["fit", *training, *TINY_MODEL, "--trainer.max_epochs=1", f"--model.weights={path}"]),
        "export": lambda: train(["export", "--ckpt_path", str(path), *out]),
        "images": lambda: explain(["images", "--checkpoint", str(path), "--input", str(folder / "x.png"), *out]),
        "benchmark": lambda: explain(["benchmark", "--checkpoint", str(path), *out, *few, *data]),
        "from_checkpoint": lambda: ViTClassifier.from_checkpoint(path),
        "load_from_checkpoint": lambda: ViTClassifier.load_from_checkpoint(path),
    }


@pytest.mark.parametrize("kind", list(KINDS))
def test_no_door_imports_what_settings_name(
    kind: str, stranger: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, boom = stranger
    path = tmp_path / "stranger.ckpt"
    settings = SETTINGS | KINDS[kind](module)
    content = {"state_dict": ViTClassifier(**SETTINGS).state_dict(), "hyper_parameters": settings}
    torch.save(content | {"pytorch-lightning_version": "2.6.6", "epoch": 0, "global_step": 0}, path)
    assert read_checkpoint(path)["hyper_parameters"] == settings  # torch's safe reader takes it
    for door, opened in doors(path, tmp_path).items():
        if kind not in ALL_DOORS and door not in ("fit", "from_checkpoint", "load_from_checkpoint"):
            continue
        capsys.readouterr()
        status: Any = None
        with suppress(Exception) if door.endswith("from_checkpoint") else nullcontext():  # commands say what is wrong
            status = opened()
        assert not boom.exists(), door
        assert module not in sys.modules
        said = capsys.readouterr().err
        assert "Traceback" not in said
        if door in RESUMED:
            assert (door, status) == (door, 2)
            assert sum(line.startswith("error: ") for line in said.splitlines()) == 1
            assert str(path) in said
        elif not door.endswith("from_checkpoint"):
            another_model = "_class_path" in settings and door != "weights"  # whose logits may be others
            assert (door, status) == (door, 2 if another_model else 0)
    __import__(module)
    assert boom.exists()  # it would have shown


def test_settings_of_another_version_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": SETTINGS | {"patience": 3}}, path)
    assert doors(path, tmp_path)["fit"]() == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: {path}: its settings are not those of this version's model (")
    assert "no model.patience" in line
    assert line.endswith("resume with the version that wrote it, or start from its weights: --model.weights")
