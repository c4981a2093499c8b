"""Training with guidance: the loss that is trained on, whatever divides, averages, resumes or freezes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from agcam import explain
from agcam.cli.train import main
from agcam.data.batch import Batch, collate
from agcam.data.input_config import InputConfig
from agcam.data.shapes import CLASSES, ShapesDataset
from agcam.data.source import TransformedDataset
from agcam.data.transforms import Transform
from agcam.errors import ModelError
from agcam.training.classifier import ViTClassifier
from agcam.training.guidance import Guidance, guided_forward, guided_objects, read_guidance
from agcam.training.weights import read_checkpoint
from command_lines import SMALL, TINY_MODEL
from processes import start_together
from reading import csv_rows
from small_runs import Watch, classifier, fit, shapes, trainer_of, weights

GUIDED = {"weight": 2.0}


def batch_of(multilabel: bool = False, count: int = 6) -> Batch:
    source = TransformedDataset(ShapesDataset(count, 32, "val", multilabel), Transform(InputConfig(size=32)))
    return collate([source[index] for index in range(count)])


def model_for(batch: Batch) -> ViTClassifier:
    return classifier(class_names=CLASSES, multilabel=batch.label.dim() == 2)


def outside(model: ViTClassifier, batch: Batch, row: int, target: int, pixels: Tensor) -> float:
    heat = explain(model.backbone, batch.image[row : row + 1], target).heatmaps[0, 0]
    share = F.avg_pool2d(pixels[None, None].float(), 8)[0, 0]
    return float((heat * (1 - share)).sum() / heat.sum())


@pytest.mark.parametrize("target", ["boxes", "masks"])
@pytest.mark.parametrize("multilabel", [False, True])
def test_the_heat_of_each_labeled_class_outside_its_own_objects_is_what_an_image_loses(
    multilabel: bool, target: Any
) -> None:
    batch = batch_of(multilabel)
    model = model_for(batch)
    logits, found = guided_forward(model, batch.image, guided_objects(batch, target))
    assert torch.allclose(logits, model(batch.image))
    for row, classes in enumerate(batch.present()):
        expected = []
        for label in classes.tolist():
            pixels = batch.mask[row] == label + 1
            if target == "boxes":
                pixels = torch.zeros(32, 32, dtype=torch.bool)
                for left, top, right, bottom in batch.boxes[row][batch.box_labels[row] == label].int().tolist():
                    pixels[top:bottom, left:right] = True
            expected.append(outside(model, batch, row, label, pixels))
        assert float(found[row]) == pytest.approx(sum(expected) / len(expected), abs=1e-5)
    assert max(len(classes) for classes in batch.present()) == (3 if multilabel else 1)


def test_images_without_annotation_have_their_ordinary_loss_alone() -> None:
    whole = batch_of()
    boxes = [entry if row in (1, 4) else None for row, entry in enumerate(whole.boxes)]
    labels = [None if box is None else label for box, label in zip(boxes, whole.box_labels, strict=True)]
    some = replace(whole, boxes=boxes, box_labels=labels)
    model = model_for(whole)
    (_, every), (_, found) = (guided_forward(model, b.image, guided_objects(b, "boxes")) for b in (whole, some))
    assert found.count_nonzero() == 2
    assert torch.allclose(found[[1, 4]], every[[1, 4]])
    assert guided_objects(replace(some, boxes=[None] * 6, box_labels=[None] * 6), "boxes") is None
    assert guided_objects(replace(some, mask=None), "masks") is None


def test_ignored_pixels_of_a_mask_count_nowhere() -> None:
    batch = batch_of()
    mask = batch.mask.clone()
    mask[:, :, :8] = 255
    objects = guided_objects(replace(batch, mask=mask), "masks")
    model = model_for(batch)
    _, found = guided_forward(model, batch.image, objects)
    row = next(row for row in range(6) if objects.guided[row])
    heat = explain(model.backbone, batch.image, batch.label).heatmaps[row, 0][:, 1:]
    share = F.avg_pool2d((mask == batch.label[:, None, None] + 1).float(), 8)[row][:, 1:]
    assert float(found[row]) == pytest.approx(float((heat * (1 - share)).sum() / heat.sum()), abs=1e-5)


class Losses(L.Callback):
    """Keeps the loss of each batch as it is trained on."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        self.losses.append(float(loss.detach()) * trainer.accumulate_grad_batches)


def losses_of(folder: Path, guidance: Any, **trainer: Any) -> list[float]:
    losses = Losses()
    trainer_of(folder, losses, **trainer).fit(classifier(guidance=guidance, lr=1e-9), datamodule=shapes())
    return losses.losses


def test_the_weight_rises_with_the_batches_of_the_warmup(tmp_path: Path) -> None:
    plain, full = (losses_of(tmp_path, guidance) for guidance in (None, Guidance(2.0)))
    added = torch.tensor(full) - torch.tensor(plain)
    assert len(added) == 10  # two epochs of five batches
    assert (added > 0.5).all()
    warm = torch.tensor(losses_of(tmp_path, Guidance(2.0, warmup_epochs=1.6))) - torch.tensor(plain)
    assert torch.allclose(warm, added * (torch.arange(10) / 8).clamp(max=1), atol=1e-4)


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_tenth_of_the_boxes_averaging_accumulation_and_half_precision_train(tmp_path: Path, multilabel: bool) -> None:
    trainer = {"accumulate_grad_batches": 2, "precision": "bf16-mixed", "gradient_clip_val": 1.0}
    args = {"ema": 0.5, "drop_path": 0.2, "label_smoothing": 0.1}
    data = shapes(multilabel, annotated=0.3)
    model = fit(tmp_path, data, trainer, guidance=Guidance(2.0, "masks"), **args)
    other = fit(tmp_path, data, trainer, **args)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert not torch.equal(
        weights(model)["backbone.blocks.0.mlp.fc1.weight"], weights(other)["backbone.blocks.0.mlp.fc1.weight"]
    )


def test_frozen_weights_stay_as_they_are(tmp_path: Path) -> None:
    watch = Watch()
    trainer_of(tmp_path, watch).fit(classifier(guidance=Guidance(2.0), freeze_epochs=-1), datamodule=shapes())
    assert watch.changed(0) == watch.changed(1) == {"head"}


def command(folder: Path, *more: str) -> list[str]:
    every = f"{{class_path: ModelCheckpoint, init_args: {{dirpath: {folder}, every_n_train_steps: 1, save_top_k: -1}}}}"
    return [
        "fit",
        *SMALL,
        *TINY_MODEL,
        "--explain=false",
        "--model.guidance={weight: 2, target: masks, loss: energy, warmup_epochs: 1}",
        "--model.drop_path=0.2",
        "--model.ema=0.9",
        "--trainer.max_epochs=2",
        "--trainer.log_every_n_steps=1",
        f"--trainer.callbacks=[{every}]",
        f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {folder}, name: ''}}}}",
        "--data=Shapes",
        "--data.train_size=16",
        "--data.val_size=4",
        "--data.annotated=0.5",
        "--data.num_workers=0",
        *more,
    ]


def test_a_resumed_run_is_the_run_that_was_not_stopped(tmp_path: Path) -> None:
    assert main(command(tmp_path / "whole", "--data.batch_size=4")) == 0
    checkpoint = tmp_path / "whole/epoch=0-step=2.ckpt"
    given = ["--data.batch_size=4", f"--ckpt_path={checkpoint}"]
    assert main(command(tmp_path / "rest", *given)) == 0
    whole, rest = (read_checkpoint(tmp_path / name / "epoch=1-step=8.ckpt")["state_dict"] for name in ("whole", "rest"))
    assert all(torch.equal(whole[name], rest[name]) for name in whole)
    assert whole["backbone.head.weight"].any()
    loaded = ViTClassifier.from_checkpoint(checkpoint)
    assert loaded.hparams["guidance"] == {"weight": 2.0, "target": "masks", "loss": "energy", "warmup_epochs": 1.0}


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    sgd = ["--model.drop_path=0", "--seed_everything=4"]
    processes = start_together(command(tmp_path / "two", "--data.batch_size=2", *sgd), tmp_path / "two", 2)
    assert [process.wait() for process in processes] == [0, 0], processes[0].printed
    assert main(command(tmp_path / "one", "--data.batch_size=4", *sgd)) == 0
    one, two = (csv_rows(tmp_path / name / "version_0/metrics.csv") for name in ("one", "two"))
    assert [row.keys() for row in one] == [row.keys() for row in two]
    for name in ("train/loss", "train/guidance"):
        for a, b in zip(one, two, strict=True):
            assert a.get(name) == pytest.approx(b.get(name), abs=1e-4), name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"guidance": {"wieght": 1}}, "model.guidance has no wieght; it has weight, target, loss, warmup_epochs"),
        ({"guidance": {"weight": -1}}, "model.guidance.weight is -1, expected a number, at least 0"),
        ({"guidance": {"target": "points"}}, "model.guidance.target is 'points', expected boxes or masks"),
        ({"guidance": GUIDED, "mixup": 0.2}, "leave out model.mixup"),
        ({"guidance": GUIDED, "cutmix": 1.0}, "leave out model.cutmix"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        ViTClassifier("vit_tiny_patch16_224", **options)


def test_data_without_boxes_are_warned_of(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"model.guidance had no effect: no training image had boxes"):
        fit(tmp_path, shapes(annotated=0.0), {"max_epochs": 1}, guidance=Guidance())


def test_an_image_of_nan_is_left_to_the_guard_of_losses() -> None:
    batch = batch_of()
    batch.image[2] = torch.nan
    logits, found = guided_forward(model_for(batch), batch.image, guided_objects(batch, "boxes"))
    assert logits.isnan().any()
    assert found.tolist() == [0] * 6


def test_the_options_of_a_checkpoint_are_those_given() -> None:
    given = Guidance(0.3, "masks", warmup_epochs=0.5)
    model = classifier(guidance=given, class_names=CLASSES, multilabel=False)
    assert read_guidance(model.hparams["guidance"]) == given
    assert read_guidance(None) is None
