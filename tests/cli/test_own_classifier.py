"""A classifier of one's own comes by its class, from the command line or a configuration, never from a checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from agcam.cli.train import main
from agcam.training.classifier import ViTClassifier
from command_lines import SMALL, TINY_MODEL

MODULE = """
from typing import Any
import torch
from agcam.training.classifier import ViTClassifier

class Cooler(ViTClassifier):
    def __init__(self, cooling: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cooling = cooling
        self.step = torch.nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) * self.step / self.cooling
"""
DATA = ["--data=Shapes", "--data.train_size=16", "--data.val_size=8", "--data.batch_size=8", "--data.num_workers=0"]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_{tmp_path.name}"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "argv", ["train.py"])
    return f"{name}.Cooler"


def test_it_trains_explains_resumes_and_validates(own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(command: str, *options: str, out: str = "run") -> int:
        logger = f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {tmp_path / out}, name: ''}}}}"
        return main([command, *SMALL, *DATA, logger, *options])

    tiny = [*TINY_MODEL, "--explanation.ground_truth=masks"]
    assert run("fit", "--model", own, "--model.cooling=3", *tiny, "--trainer.max_epochs=1") == 0
    folder = tmp_path / "run" / "version_0"
    assert "val/loc/iou" in (folder / "metrics.csv").read_text().splitlines()[0]
    (path,) = (folder / "checkpoints").glob("epoch*.ckpt")
    saved = torch.load(path, weights_only=True)
    assert saved["hyper_parameters"]["cooling"] == 3
    assert "step" in saved["state_dict"]

    assert run("fit", "--config", str(folder / "config.yaml"), "--trainer.max_epochs=2", f"--ckpt_path={path}") == 0
    (resumed,) = (tmp_path / "run" / "version_1" / "checkpoints").glob("epoch=1*.ckpt")
    assert torch.load(resumed, weights_only=True)["hyper_parameters"]["cooling"] == 3
    assert run("validate", f"--model={own}", f"--ckpt_path={path}") == 0

    capsys.readouterr()
    assert run("validate", f"--ckpt_path={path}") == 2
    assert main(["export", "--ckpt_path", str(path), "--output", str(tmp_path / "out")]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert all(f"its model is of class '{own}', expected agcam" in line for line in errors)

    kind = sys.modules[own.partition(".")[0]].Cooler
    restored = kind.from_checkpoint(path)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(restored(images), restored.backbone(images) * restored.step / 3)


def test_a_plain_checkpoint_is_not_taken_for_another_class(own: str, tmp_path: Path) -> None:
    settings = {"backbone": "vit_tiny_patch16_224", "class_names": ["a"], "multilabel": False}
    path = tmp_path / "plain.ckpt"
    torch.save({"state_dict": ViTClassifier(**settings).state_dict(), "hyper_parameters": settings}, path)
    assert main(["validate", *SMALL, *DATA, f"--model={own}", f"--ckpt_path={path}"]) == 2
