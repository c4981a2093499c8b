"""VOC end to end: several classes in an image, each explained and scored against its own object."""

from pathlib import Path

import numpy as np
import pytest

from agcam.cli.train import main
from agcam.data.shapes import CLASSES, ShapesDataset
from command_lines import SMALL, TINY_MODEL
from reading import column, csv_rows


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("truth", ["boxes", "masks"])
def test_every_present_class_is_explained_and_scored(
    truth: str, precision: str, voc_root: Path, tmp_path: Path
) -> None:
    args = [
        *(f"--trainer.{o}" for o in ("max_epochs=2", "log_every_n_steps=1", f"precision={precision}")),
        f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {tmp_path}, name: ''}}}}",
        "--data=VOC2012",
        f"--data.root={voc_root}",
        f"--data.classes=[{', '.join(CLASSES)}]",
        "--data.batch_size=4",
        "--data.num_workers=0",
        f"--explanation.ground_truth={truth}",
        "--explanation.gallery=3",
    ]
    assert main(["fit", *SMALL, *TINY_MODEL, *args]) == 0
    source = ShapesDataset(9, 48, "val", multilabel=True)
    pairs = sum(len(source[i].labels) for i in range(9))
    rows = csv_rows(tmp_path / "version_0" / "metrics.csv")
    assert column(rows, "val/loc/count") == [pairs, pairs]
    for name in ("val/mAP", "val/loc/iou", "val/loc/pointing_game"):
        assert np.isfinite(column(rows, name)).all()
        assert len(column(rows, name)) == 2
    pictures = sorted((tmp_path / "version_0" / "explanations" / "val_epoch_002").glob("0*.png"))
    assert len(pictures) == sum(len(source[i].labels) for i in (0, 3, 6))


def test_a_frozen_backbone_is_explained_all_the_same(cub_root: Path, tmp_path: Path) -> None:
    import lightning as L

    from agcam.callbacks.explanation import ExplanationCallback
    from agcam.data import CUB200
    from agcam.training.classifier import ViTClassifier

    model_args = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = ViTClassifier("vit_tiny_patch16_224", image_size=32, backbone_args=model_args)
    data = CUB200(root=str(cub_root), batch_size=8, num_workers=0)

    class Freeze(L.Callback):
        def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            for name, parameter in pl_module.backbone.named_parameters():
                parameter.requires_grad = name.startswith("head")

    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[Freeze(), ExplanationCallback(gallery=0)],
    )
    trainer.fit(model, datamodule=data)
    assert trainer.callback_metrics["val/loc/count"] == 13
    frozen = {n: p.requires_grad for n, p in model.backbone.named_parameters()}
    assert [n for n, wants in frozen.items() if wants] == ["head.weight", "head.bias"]
    assert all(p.grad is None for n, p in model.backbone.named_parameters() if not frozen[n])
