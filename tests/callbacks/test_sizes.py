"""One class or 21,841: training, explaining, reporting."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

import agcam
from agcam.callbacks.explanation import ExplanationCallback
from agcam.cli.images import explain_images
from agcam.data import Example, ImageDataModule
from agcam.data.module import Split
from agcam.report.write import write_report
from agcam.training.classifier import ViTClassifier
from agcam.training.loaded import LoadedModel

ARGS = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


class Grey:
    """Eight grey images with a box, of the first and the last class."""

    def __init__(self, classes: int, multilabel: bool) -> None:
        self.class_names = [f"class {n}" for n in range(classes)]
        self.multilabel = multilabel

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Example:
        label = (len(self.class_names) - 1) * (index % 2)
        image, box = np.full((16, 16, 3), 30 * index, np.uint8), np.array([[2, 2, 9, 9]], np.float32)
        return Example(image, (label,), box, np.array([label]), None, f"{index}")


class GreyData(ImageDataModule):
    def __init__(self, classes: int, multilabel: bool) -> None:
        super().__init__(batch_size=4, num_workers=0, image_size=16)
        self.source = Grey(classes, multilabel)

    def open(self, split: Split) -> Grey:
        return self.source


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 21_841])
def test_any_number_of_classes_trains_validates_and_is_explained(
    classes: int, multilabel: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = ViTClassifier("vit_tiny_patch16_224", image_size=16, backbone_args=ARGS)
    callback = ExplanationCallback(methods=["agcam", "center"])
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=1,
        logger=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(model, datamodule=GreyData(classes, multilabel))
    metrics = trainer.callback_metrics
    assert {"train/loss", "val/loss", "val/loc/iou"} <= set(metrics)
    assert torch.isfinite(metrics["train/loss"])
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    trained = ViTClassifier.from_checkpoint(checkpoint)
    explanation = agcam.explain(trained, torch.randn(2, 3, 16, 16), targets=classes - 1)
    assert explanation.logits.shape == (2, classes)
    assert explanation.heatmaps.shape == (2, 1, 2, 2)
    assert torch.isfinite(explanation.heatmaps).all()
    Image.new("RGB", (20, 30)).save(tmp_path / "x.png")
    subject = LoadedModel(trained, trained.class_names, trained.input_config, multilabel)
    outcome = explain_images(subject, [tmp_path / "x.png"], tmp_path / "out", top=3)
    assert len(outcome.predictions[0]["classes"]) == min(3, classes)
    for folder, said in ((tmp_path, f"class {classes - 1}"), (tmp_path / "out", outcome.predictions[0]["predicted"])):
        write_report(folder, tmp_path / "report.html")
        assert said in (tmp_path / "report.html").read_text()
