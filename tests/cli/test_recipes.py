"""What fine-tuning can be told to do, each seen in a real, small training run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from agcam.callbacks import explanation
from agcam.callbacks.explanation import ExplanationCallback
from agcam.cli.train import main
from agcam.data.shapes import CLASSES
from agcam.data.transforms import Augmentation
from agcam.errors import ModelError
from agcam.training.classifier import ViTClassifier
from agcam.training.losses import LossName, image_losses
from small_runs import TINY, Watch, classifier, fit, shapes, trainer_of, weights

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("multilabel", [False, True])
def test_mixing_trains_and_the_seed_governs_it(multilabel: bool, tmp_path: Path) -> None:
    both = {"mixup": 0.4, "cutmix": 1.0}
    data = {"multilabel": multilabel, "batch_size": 5}  # an odd size
    runs = [weights(fit(tmp_path, shapes(**data), {"max_epochs": 1}, **args)) for args in (both, both, {})]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert any(not torch.equal(runs[0][name], runs[2][name]) for name in runs[0])


@pytest.mark.parametrize(("multilabel", "loss"), [(False, "bce"), (True, "asymmetric")])
def test_the_chosen_loss_is_trained_and_validated(multilabel: bool, loss: LossName, tmp_path: Path) -> None:
    model, data = classifier(loss=loss, mixup=0.2, label_smoothing=0.1), shapes(multilabel, batch_size=6)
    trainer = trainer_of(tmp_path, max_epochs=1)
    trainer.fit(model, datamodule=data)
    (batch,) = data.val_dataloader()
    with torch.no_grad():
        expected = image_losses(loss, model(batch.image), batch.label, multilabel).mean()
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(float(expected))
    assert float(trainer.callback_metrics["train/loss"]) > 0


@pytest.mark.parametrize(("multilabel", "loss"), [(False, "asymmetric"), (True, "cross_entropy")])
def test_a_loss_for_other_data_is_one_line(multilabel: bool, loss: str) -> None:
    with pytest.raises(ModelError, match=f"model.loss {loss} does not fit .*-label data; choose"):
        classifier(loss=loss, class_names=["a", "b"], multilabel=multilabel)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"mixup": -1.0}, "model.mixup is -1.0, expected at least 0$"),
        ({"ema": 1.0}, "model.ema is 1.0, expected at least 0 and less than 1$"),
        ({"freeze_epochs": -1, "unfreeze_blocks_per_epoch": 2}, "never frees a block"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        classifier(**args)


def test_the_schedule_counts_optimizer_steps_under_accumulation(tmp_path: Path) -> None:
    watch = Watch()
    args = {"lr": 1.0, "warmup_epochs": 1.0}
    trainer = trainer_of(tmp_path, watch, accumulate_grad_batches=2, gradient_clip_val=1.0)
    trainer.fit(classifier(**args), datamodule=shapes())
    assert trainer.global_step == 6  # 5 batches: steps after the second, fourth and last
    assert watch.rates == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1.0, 0.75, 0.25])
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0)


def test_warm_up_is_as_long_where_steps_end_the_training(tmp_path: Path) -> None:
    watch = Watch()
    trainer_of(tmp_path, watch, max_epochs=-1, max_steps=9).fit(classifier(lr=1.0), datamodule=shapes())
    assert watch.rates.index(1.0) == 5


def test_a_training_without_end_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"give --trainer\.max_epochs or --trainer\.max_steps"):
        fit(tmp_path, trainer={"max_epochs": -1})


@pytest.mark.parametrize("by", ["flag", "callback", "weights only"])
def test_averaged_weights_are_validated_explained_and_loaded(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits: list[torch.Tensor] = []
    plain = explanation.explain_recording

    def explain(recording: Any, *args: Any) -> Any:
        logits.append(recording.logits)
        return plain(recording, *args)

    monkeypatch.setattr(explanation, "explain_recording", explain)
    watch, saving = Watch(), ModelCheckpoint(tmp_path, save_weights_only=by == "weights only")
    callbacks = [EMAWeightAveraging(decay=0.9)] if by == "callback" else []
    model, data = classifier(ema=0.0 if callbacks else 0.9, lr=0.01), shapes(batch_size=6)
    trainer = trainer_of(tmp_path, watch, saving, ExplanationCallback(gallery=0), *callbacks, max_epochs=3)
    trainer.fit(model, datamodule=data)
    loaded = ViTClassifier.from_checkpoint(saving.best_model_path)
    with torch.no_grad():
        (batch,) = data.val_dataloader()
        assert torch.allclose(loaded(batch.image), logits[-1], atol=1e-6)
    accuracy = (loaded(batch.image).argmax(1) == batch.label).float().mean()
    assert float(trainer.callback_metrics["val/accuracy"]) == pytest.approx(float(accuracy))
    assert not torch.allclose(loaded.backbone.head.weight, watch.weights[-1]["head.weight"], atol=1e-4)


def test_a_run_with_everything_on_resumes_exactly(tmp_path: Path) -> None:
    policy = Augmentation(rand_augment=2, erasing=0.5)
    args = {"mixup": 0.3, "cutmix": 1.0, "ema": 0.9, "freeze_epochs": 1, "unfreeze_blocks_per_epoch": 1}
    args |= {"drop_path": 0.2, "label_smoothing": 0.1}
    saving = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=3)
    whole, resumed = classifier(**args), classifier(**args)
    trainer_of(tmp_path, saving, max_epochs=3).fit(whole, datamodule=shapes(balanced=True, augmentation=policy))
    trainer = trainer_of(tmp_path / "again", max_epochs=3)
    data = shapes(balanced=True, augmentation=policy)
    trainer.fit(resumed, datamodule=data, ckpt_path=str(tmp_path / "step=6.ckpt"))
    assert trainer.global_step == 15
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(resumed).items())
    assert ViTClassifier.from_checkpoint(tmp_path / "step=6.ckpt").hparams["mixup"] == 0.3


def test_the_average_leaves_whole_numbers_alone(tmp_path: Path) -> None:
    args = {"image_size": 64, "backbone_args": TINY, "class_names": CLASSES, "multilabel": False}
    model = ViTClassifier("vit_relpos_base_patch16_224", ema=0.9, **args)
    before = {name: buffer.clone() for name, buffer in model.backbone.named_buffers() if not buffer.is_floating_point()}
    trainer_of(tmp_path, max_epochs=1).fit(model, datamodule=shapes())
    after = dict(model.backbone.named_buffers())
    assert before
    assert all(torch.equal(after[name], buffer) for name, buffer in before.items())


def test_mirrored_logits_are_averaged_and_the_image_itself_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = []
    plain = explanation.explain_recording

    def explain(recording: Any, *args: Any) -> Any:
        recordings.append(recording)
        return plain(recording, *args)

    monkeypatch.setattr(explanation, "explain_recording", explain)
    model, data = classifier(test_time_flip=True), shapes(batch_size=6)
    outputs: list[torch.Tensor] = []
    step = model.test_step
    monkeypatch.setattr(model, "test_step", lambda *args: outputs.append(step(*args)))
    trainer_of(tmp_path, ExplanationCallback(gallery=0)).test(model, datamodule=data, verbose=False)
    (batch,) = data.test_dataloader()
    with torch.no_grad():
        image, mirrored = model(batch.image), model(batch.image.flip(-1))
    assert torch.equal(recordings[0].images, batch.image)
    assert torch.allclose(recordings[0].logits, image, atol=1e-6)
    assert torch.allclose(outputs[0], (image + mirrored) / 2, atol=1e-6)
    assert not torch.allclose(image, mirrored, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_the_optimizer_is_fused_where_clipping_allows_it(precision: str, tmp_path: Path) -> None:
    args = {"accelerator": "gpu", "devices": 1, "precision": precision, "gradient_clip_val": 1.0}
    trainer = trainer_of(tmp_path, **args)
    trainer.fit(classifier(), datamodule=shapes())
    assert bool(trainer.optimizers[0].defaults["fused"]) == (precision == "bf16-mixed")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_a_configuration_is_understood(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", str(path), "--print_config"])
    assert end.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["max_epochs"] > 0
    head = path.read_text().split("seed_everything")[0]
    assert f"configs/{path.name}" in head
    assert "Cost" in head or "minutes" in head


def test_the_full_recipe_from_scratch_trains_the_same_model() -> None:
    short, full = (yaml.safe_load((CONFIGS / f"cub200_scratch{name}.yaml").read_text()) for name in ("", "_full"))
    for name in ("backbone", "image_size", "backbone_args"):
        assert short["model"][name] == full["model"][name]
    assert math.prod(short["model"].get(name, 0) for name in ("mixup", "ema")) == 0
