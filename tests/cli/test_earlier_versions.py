"""What earlier versions wrote is read, or refused by one line that says what to do."""

import sys
from pathlib import Path

import pytest
import torch

from agcam.cli.train import main
from agcam.data.shapes import CLASSES
from agcam.training.classifier import ViTClassifier
from command_lines import SMALL

SETTINGS = {
    "backbone": "vit_tiny_patch16_224",
    "image_size": 32,
    "backbone_args": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    "class_names": CLASSES,
    "multilabel": False,
}


@pytest.mark.parametrize("name", ["ResumingCallback", "FiniteCallback", "Freezing"])
def test_states_of_renamed_callbacks_are_not_dropped(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    path = tmp_path / "old.ckpt"
    state = ViTClassifier(**SETTINGS).state_dict()  # type: ignore[arg-type]  # of several types
    torch.save({"state_dict": state, "hyper_parameters": SETTINGS, "callbacks": {name: {"seed": 7}}}, path)
    assert main(["fit", *SMALL, "--data=Shapes", f"--ckpt_path={path}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: {path}: an earlier version wrote it, whose states of {name} this one does not read")
    assert line.endswith(f"--model.weights {path}")


@pytest.mark.parametrize("old", ["ImageFolder", "agcam.data.folder.ImageFolder"])
def test_the_old_name_of_a_data_set_leads_to_the_new_one(
    old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    config = tmp_path / "config.yaml"
    config.write_text(f"data:\n  class_path: {old}\n  init_args:\n    root: {tmp_path}\n")
    assert main(["fit", "--config", str(config)]) == 2
    assert "ImageFolderDataModule" in capsys.readouterr().err
