"""Options beside `--ckpt_path`: which hold, which are refused by name, and what the saved configuration says."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import save_file
from sklearn.metrics import log_loss

from agcam.cli.train import main
from agcam.data.shapes import Shapes
from agcam.training.classifier import ViTClassifier
from command_lines import SMALL, TINY_MODEL
from reading import csv_rows
from small_runs import Watch, classifier, shapes, trainer_of, weights

STEPS_PER_EPOCH = 5


def command(folder: Path, *more: str) -> list[str]:
    return [
        "fit",
        *SMALL,
        *TINY_MODEL,
        "--model.lr=1e-3",
        "--model.label_smoothing=0.1",
        "--explain=false",
        "--trainer.max_epochs=1",
        "--trainer.log_every_n_steps=1",
        "--trainer.callbacks={class_path: ModelCheckpoint, init_args: {save_last: true}}",
        f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {folder}, name: ''}}}}",
        *DATA,
        *more,
    ]


DATA = [
    "--data=Shapes",
    "--data.train_size=20",
    "--data.val_size=6",
    "--data.test_size=6",
    "--data.batch_size=4",
    "--data.num_workers=0",
]


def beside(folder: Path, checkpoint: Path, *more: str, verb: str = "fit") -> list[str]:
    """A command that gives nothing of the model but what is in `more`."""
    return [
        verb,
        *SMALL,
        *(["--trainer.max_epochs=2"] if verb == "fit" else []),
        "--explain=false",
        "--trainer.callbacks={class_path: ModelCheckpoint, init_args: {save_last: true}}",
        f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {folder}, name: ''}}}}",
        *DATA,
        f"--ckpt_path={checkpoint}",
        *more,
    ]


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    return line


def saved(folder: Path) -> dict[str, Any]:
    """The model's options in the configuration that a run has saved."""
    found: dict[str, Any] = yaml.safe_load((folder / "version_0/config.yaml").read_text())["model"]
    return found


def settings(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path)["hyper_parameters"]
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train.py"])
        assert main(command(folder)) == 0
    return folder / "version_0/checkpoints/last.ckpt"


HONORED = {
    "lr": 3e-3,
    "weight_decay": 0.2,
    "layer_decay": 0.5,
    "warmup_epochs": 0.5,
    "drop_path": 0.1,
    "label_smoothing": 0.0,  # the default, but said
    "loss": "bce",
    "mixup": 0.2,
    "cutmix": 1.0,
    "ema": 0.9,
    "freeze_epochs": 1,
    "unfreeze_blocks_per_epoch": 1,
    "test_time_flip": True,
}


def test_options_of_training_hold_and_are_saved(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "agcam"):
        assert main(beside(tmp_path, run, *(f"--model.{name}={value}" for name, value in HONORED.items()))) == 0
    assert "model.lr 0.003 (was 0.001)" in caplog.text
    for found in (saved(tmp_path), settings(tmp_path / "version_0/checkpoints/last.ckpt")):
        assert {name: found[name] for name in HONORED} == HONORED
        assert found["image_size"] == 32  # what was not given is the checkpoint's


def test_what_is_not_given_is_the_checkpoints(run: Path, tmp_path: Path) -> None:
    assert main(beside(tmp_path, run)) == 0
    assert settings(tmp_path / "version_0/checkpoints/last.ckpt") == settings(run)
    assert {name: saved(tmp_path)[name] for name in ("lr", "label_smoothing")} == {"lr": 1e-3, "label_smoothing": 0.1}


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--model.backbone=vit_small_patch16_224", "'vit_small_patch16_224', there 'vit_tiny_patch16_224'"),
        ("--model.image_size=64", "--model.image_size is 64, there 32"),
        ("--model.backbone_args={depth: 3}", "--model.backbone_args"),
        ("--model.class_names=[a, b]", "--model.class_names is"),
        ("--model.input={size: 48}", "--model.input is"),
        ("--model.freeze_epochs=-1", "--model.freeze_epochs is -1, there 0"),
        ("--model.pretrained=true", "--model.pretrained (True, there False): no effect beside --ckpt_path"),
        ("--model.weights=w.safetensors", "--model.weights ('w.safetensors', there None): no effect"),
        ("--seed_everything=6", "--seed_everything is 6, the run of"),
        ("--data.batch_size=5", "--data.batch_size × processes is 5, the checkpoint's run has 4"),
    ],
)
def test_what_a_checkpoint_has_settled_is_refused_by_name(
    option: str, said: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(beside(tmp_path, run, option)) == 2
    assert said in the_error(capsys)
    assert not list(tmp_path.rglob("*.ckpt"))


def loss_of_both(checkpoint: Path, verb: str) -> float:
    """The loss of the mean logits of images and their mirror images, by scikit-learn."""
    model, data = ViTClassifier.from_checkpoint(checkpoint), Shapes(20, 6, 6, batch_size=6, num_workers=0)
    data.fit_input(model.input_config)
    data.setup(verb)
    (batch,) = data.val_dataloader() if verb == "validate" else data.test_dataloader()
    with torch.no_grad():
        logits = (model(batch.image) + model(batch.image.flip(-1))) / 2
    return float(log_loss(batch.label, logits.double().softmax(1), labels=range(len(model.class_names))))


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_an_evaluated_model_is_the_checkpoints(
    verb: str, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model.lr=1", "--model.pretrained=true", "--model.test_time_flip=true", "--data.augmentation.flip=0"]
    with caplog.at_level(logging.WARNING, "agcam"):
        assert main(beside(tmp_path, run, *given, verb=verb)) == 0
    assert "--model.lr, --model.pretrained: no effect beside" in caplog.text
    assert f"--data.augmentation.flip: no effect in {verb}" in caplog.text
    found = saved(tmp_path)
    assert (found["lr"], found["pretrained"], found["test_time_flip"]) == (1e-3, False, True)
    (row,) = csv_rows(tmp_path / "version_0/metrics.csv")
    assert row[{"validate": "val/loss", "test": "test/loss"}[verb]] == pytest.approx(loss_of_both(run, verb), rel=1e-5)
    assert main(beside(tmp_path / "other", run, "--model.image_size=64", verb=verb)) == 2
    assert "--model.image_size is 64, there 32" in the_error(capsys)


def test_the_same_recipe_resumes_without_its_weights_and_an_edited_one_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, start = tmp_path / "recipe.yaml", tmp_path / "start.safetensors"
    known = ViTClassifier(
        "vit_tiny_patch16_224",
        image_size=32,
        backbone_args={"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
        class_names=[str(i) for i in range(8)],
        multilabel=False,
    )
    save_file(known.backbone.state_dict(), start)
    recipe.write_text(f"model: {{weights: {start}, lr: 1.0e-3, weight_decay: 0.1}}\n")
    again = [*command(tmp_path, "--trainer.max_epochs=2"), f"--config={recipe}", "--ckpt_path=last"]
    assert main([*command(tmp_path), f"--config={recipe}"]) == 0
    start.unlink()  # the checkpoint's weights replace it
    assert main(again) == 0
    recipe.write_text(f"model: {{weights: {start}, lr: 1.0e-3, weight_decay: 0.3}}\n")
    assert main([*again, "--trainer.max_epochs=3"]) == 0
    last = tmp_path / "version_2/checkpoints/last.ckpt"
    groups = torch.load(last)["optimizer_states"][0]["param_groups"]
    assert {group["weight_decay"] for group in groups} == {0.0, 0.3}
    assert settings(last)["weights"] == str(start)
    config = tmp_path / "version_2/config.yaml"  # names all options, those that data set as null
    assert main(["fit", f"--config={config}", "--trainer.max_epochs=4", "--ckpt_path=last"]) == 0
    recipe.write_text("model: {weights: other.safetensors}\n")
    assert main(again) == 2
    assert "--model.weights ('other.safetensors'" in the_error(capsys)


def fitted(folder: Path, epochs: int, checkpoint: Path | None = None, **args: Any) -> tuple[ViTClassifier, Watch]:
    model, watch = classifier(**args), Watch()
    save = ModelCheckpoint(folder, save_last=True)
    trainer_of(folder, watch, save, max_epochs=epochs).fit(model, datamodule=shapes(), ckpt_path=checkpoint)
    return model, watch


@pytest.mark.parametrize("args", [{}, {"lr": 4e-3}, {"layer_decay": 0.5}, {"warmup_epochs": 3.0}])
def test_an_extended_run_has_the_rates_of_a_run_of_that_length(
    args: dict[str, float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fitted(tmp_path / "short", 1)
    with caplog.at_level(logging.WARNING, "agcam"):
        _, resumed = fitted(tmp_path / "resumed", 3, tmp_path / "short/last.ckpt", **args)
    _, whole = fitted(tmp_path / "whole", 3, **args)
    assert len(resumed.rates) == 2 * STEPS_PER_EPOCH
    assert resumed.rates == whole.rates[STEPS_PER_EPOCH:]
    assert resumed.rates[0] > 0
    assert "the run in the checkpoint was to take 5 optimizer steps, this one takes 15: step 5" in caplog.text


def test_averaging_that_is_switched_off_leaves_training_as_it_would_have_been(tmp_path: Path) -> None:
    fitted(tmp_path / "averaged", 2, ema=0.9, lr=1e-2)
    begun = tmp_path / "averaged/last.ckpt"
    model, _ = fitted(tmp_path / "off", 3, begun, ema=0.0, lr=1e-2)
    fitted(tmp_path / "never", 2, lr=1e-2)
    never, _ = fitted(tmp_path / "never_more", 3, tmp_path / "never/last.ckpt", lr=1e-2)
    assert weights(model).keys() == weights(never).keys()
    assert all(torch.equal(mine, weights(never)[name]) for name, mine in weights(model).items())


class Steps(L.Callback):
    """The classifier's bias after each step."""

    def __init__(self) -> None:
        self.found: list[torch.Tensor] = []

    def on_before_zero_grad(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        self.found.append(pl_module.backbone.head.bias.detach().clone())  # type: ignore[union-attr,operator]  # a ViT's

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.found.append(pl_module.backbone.head.bias.detach().clone())  # type: ignore[union-attr,operator]  # as above


def test_averaging_that_is_switched_on_starts_from_the_weights_of_the_checkpoint(tmp_path: Path) -> None:
    fitted(tmp_path / "plain", 1, lr=1e-2)
    model, steps = classifier(ema=0.5, lr=1e-2), Steps()
    trainer = trainer_of(tmp_path, steps, max_epochs=2)
    trainer.fit(model, datamodule=shapes(), ckpt_path=tmp_path / "plain/last.ckpt")
    *before, _ = steps.found  # before the zeroing at the head of each step: the weights of the step before it
    assert torch.equal(before[0], torch.load(tmp_path / "plain/last.ckpt")["state_dict"]["backbone.head.bias"])
    average = None
    _, watched = fitted(tmp_path / "same", 2, tmp_path / "plain/last.ckpt", lr=1e-2)
    last = watched.weights[-1]["head.bias"]  # averaging does not change training
    for found in [*before[1:], last]:
        average = found if average is None else 0.5 * average + 0.5 * found
    assert average is not None
    torch.testing.assert_close(model.backbone.head.bias.detach(), average)  # type: ignore[union-attr]  # a ViT's
