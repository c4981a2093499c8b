"""One class or 21,841, and an index of 100,000 images."""

from __future__ import annotations

import time
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

import agcam
from agcam.callbacks.explanation import ExplanationCallback
from agcam.classifier import ViTClassifier
from agcam.data import CUB200, Example, ImageDataModule
from agcam.data.module import Split
from agcam.explain_images import Explainable, explain_images

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
    subject = Explainable(trained, trained.class_names, trained.input_config, multilabel)
    outcome = explain_images(subject, [tmp_path / "x.png"], tmp_path / "out", top=3)
    assert len(outcome.predictions[0]["classes"]) == min(3, classes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_an_index_of_a_hundred_thousand_images_loads_in_seconds(kind: str, tmp_path: Path) -> None:
    count, folders = 100_000, 200
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)).save(
        tmp_path / f"x.{kind}"
    )
    content = (tmp_path / f"x.{kind}").read_bytes()
    names = [f"{n % folders:03d}.Bird/{n}.{kind}" for n in range(count)]
    for folder in range(folders):
        (tmp_path / "images" / f"{folder:03d}.Bird").mkdir(parents=True)
    for name in names:
        (tmp_path / "images" / name).write_bytes(content)
    lines = {
        "images": (f"{n} {name}" for n, name in enumerate(names)),
        "classes": (f"{n} {n:03d}.Bird" for n in range(folders)),
        "image_class_labels": (f"{n} {n % folders}" for n in range(count)),
        "bounding_boxes": (f"{n} 1 1 20 20" for n in range(count)),
        "train_test_split": (f"{n} 1" for n in range(count)),
    }
    for name, text in lines.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(text))
    start, processor = time.perf_counter(), time.process_time()
    source = CUB200(root=str(tmp_path)).open("train")
    took, busy = time.perf_counter() - start, time.process_time() - processor
    assert len(source) == count
    print(f"100,000 {kind}: {took:.1f} s, {busy:.1f} s of one processor")  # noqa: T201  # for -rP
    assert busy < 60
