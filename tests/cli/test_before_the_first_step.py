"""What would stop a run after its first epoch is said before its first step."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from agcam.callbacks.explanation import ExplanationCallback
from agcam.callbacks.monitors import MonitorCheck
from agcam.callbacks.self_check import check_explainable
from agcam.cli.train import main
from agcam.data.shapes import ShapesDataset
from agcam.errors import InputError
from command_lines import SMALL, TINY_MODEL
from small_runs import TINY, classifier, shapes, trainer_of

DATA = ["--data=Shapes", "--data.train_size=8", "--data.val_size=4", "--data.batch_size=4", "--data.num_workers=0"]


def fit(folder: Path, *more: str, callback: str = "", data: list[str] = DATA, model: list[str] = TINY_MODEL) -> int:
    watching = [f"--trainer.callbacks=[{callback}]"] if callback else []
    logger = f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {folder}, name: ''}}}}"
    return main(["fit", *SMALL, *model, *data, "--trainer.max_epochs=2", logger, *watching, *more])


def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line, from a run that has taken no step."""
    assert not list(folder.rglob("*.ckpt"))
    assert not list(folder.rglob("metrics.csv"))
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    return line


def best(name: str, **args: Any) -> str:
    options = "".join(f", {key}: {value}" for key, value in args.items())
    return f"{{class_path: ModelCheckpoint, init_args: {{monitor: {name}{options}}}}}"


def stopping(name: str, **args: Any) -> str:
    return best(name, **args).replace("ModelCheckpoint", "EarlyStopping")


@pytest.mark.parametrize(
    ("callback", "more", "said"),
    [
        (best("val/acc"), [], "ModelCheckpoint watches 'val/acc', which is not logged: did you mean val/accuracy?"),
        (stopping("val_loss"), [], "EarlyStopping watches 'val_loss', which is not logged: did you mean val/loss?"),
        (
            stopping("nonsense"),
            [],
            "no metric has a similar name. Logged are train/loss, val/loss, val/accuracy, val/top5",
        ),
        (best("val/mAP"), [], "it belongs to multi-label data, and these are not"),
        (stopping("val/accuracy"), ["--data.multilabel=true"], "it belongs to single-label data, and these are not"),
        (best("val/loc/iou"), ["--explain=false"], "explanations are switched off (--explain false)"),
        (best("val/loc/IoU"), [], "did you mean val/loc/iou?"),
        (best("val/loc_center/iou"), ["--explanation.methods=agcam"], "did you mean val/loc/iou?"),
        (best("val/loc/iou"), ["--explanation.every_n_epochs=2"], "give ModelCheckpoint every_n_epochs: 2"),
        (best("val/loc/drift"), [], "it is logged not in the first explained epoch"),
        (stopping("val/loss"), ["--trainer.limit_val_batches=0"], "there is no validation"),
        (best("train/skipped_steps"), [], "ModelCheckpoint watches 'train/skipped_steps'"),
    ],
)
def test_a_monitor_of_what_is_not_logged_is_refused(
    callback: str, more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, *more, callback=callback) == 2
    assert said in refused(tmp_path, capsys)


class Steps(L.Callback):
    """Counts training batches."""

    count = 0

    def on_train_batch_start(self, *args: Any) -> None:
        self.count += 1


@pytest.mark.parametrize("strict", [True, False])
def test_a_scheduler_that_watches_nothing_is_refused(strict: bool, tmp_path: Path) -> None:
    model = classifier()

    def plateau() -> dict[str, Any]:
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": "val/top1", "strict": strict},
        }

    model.configure_optimizers = plateau  # type: ignore[method-assign,assignment]  # as LightningCLI's --optimizer does
    trainer = trainer_of(tmp_path, MonitorCheck(), max_epochs=1)
    if strict:
        with pytest.raises(InputError, match="ReduceLROnPlateau watches 'val/top1'"):
            trainer.fit(model, datamodule=shapes())
    else:
        trainer.fit(model, datamodule=shapes())
    assert trainer.global_step == (0 if strict else 5)


@pytest.mark.filterwarnings("ignore:no boxes in the explained batches")
def test_localization_is_not_watched_where_no_object_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        for kind in ("a", "b"):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
            for number in range(4):
                pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / kind / f"{number}.png")
    folders = [
        "--data=ImageFolderDataModule",
        f"--data.root={tmp_path / 'data'}",
        "--data.batch_size=4",
        "--data.num_workers=0",
    ]
    assert fit(tmp_path / "run", callback=best("val/loc/iou"), data=folders) == 2
    assert "have no objects of the kind that --explanation.ground_truth names" in refused(tmp_path / "run", capsys)
    assert fit(tmp_path / "run", callback=best("val/loc/entropy"), data=folders) == 0


@pytest.mark.parametrize(
    ("callback", "more"),
    [
        (best("val/loc/iou"), []),
        (best("val/loc_random/pointing_game"), ["--explanation.methods=[agcam, random]"]),
        (best("val/loc/iou", every_n_epochs=2), ["--explanation.every_n_epochs=2"]),
        (best("val/loc/drift", every_n_epochs=2), []),
        (stopping("nonsense", strict="false"), []),
        (best("nonsense", save_top_k=0), []),
        (best("train/skipped_steps"), ["--on_nan=skip"]),
        (best("step", mode="max"), []),
        (stopping("train/loss"), ["--trainer.limit_val_batches=0"]),
    ],
)
def test_a_monitor_of_what_is_logged_trains(callback: str, more: list[str], tmp_path: Path) -> None:
    assert fit(tmp_path, *more, callback=callback) == 0


class Own(L.Callback):
    """Logs a metric of its own."""

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.log("val/own", 1.0)


def test_what_a_callback_of_ones_own_may_log_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = "{class_path: test_before_the_first_step.Own}"
    with caplog.at_level(logging.WARNING, "agcam"):
        assert fit(tmp_path, callback=f"{best('val/own')}, {own}") == 0
    assert "'val/own', which is not logged" in caplog.text
    assert list(tmp_path.rglob("*.ckpt"))


SWIN = [
    "--model.backbone=swin_tiny_patch4_window7_224",
    "--model.image_size=32",
    "--model.backbone_args={embed_dim: 12, depths: [1, 1], num_heads: [1, 2], window_size: 4}",
]


def test_a_backbone_that_cannot_be_explained_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, model=SWIN) == 2
    said = refused(tmp_path, capsys)
    assert "SwinTransformer" in said
    assert "To train without explanations: --explain false" in said
    assert fit(tmp_path, "--explain=false", model=SWIN) == 0


def test_a_method_that_does_not_suit_the_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distilled = ["--model.backbone=deit_tiny_distilled_patch16_224", *TINY_MODEL[1:]]
    assert fit(tmp_path, "--explanation.methods=[agcam, lrp]", model=distilled) == 2
    said = refused(tmp_path, capsys)
    assert "lrp follows one class token through all blocks" in said
    assert "which reach it. To train without explanations: --explain false" in said
    assert fit(tmp_path, "--explanation.methods=[agcam]", model=distilled) == 0


def test_trying_to_explain_leaves_everything_as_it_was(tmp_path: Path) -> None:
    model = classifier(class_names=list("abcdefgh"), multilabel=False, drop_path=0.5).train()
    trainer = trainer_of(tmp_path)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    random = torch.get_rng_state()
    check_explainable(trainer, model, ["agcam", "rollout", "lrp", "gradcam", "random"])
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == hooks
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("mode", ["RGB", "1", "I;16", "RGBA"])
def test_a_mask_of_a_mode_that_is_not_read_is_named(
    mode: str, voc_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "voc"
    for path in voc_root.rglob("*"):
        if path.is_file():
            (root / path.relative_to(voc_root)).parent.mkdir(parents=True, exist_ok=True)
            (root / path.relative_to(voc_root)).write_bytes(path.read_bytes())
    mask = sorted((root / "SegmentationClass").iterdir())[-1]
    with Image.open(mask) as found:
        size = found.size
    Image.new(mode, size).save(mask)
    classes = f"--data.classes=[{', '.join(ShapesDataset(1, 48, 'train').class_names)}]"
    data = ["--data=VOC2012", f"--data.root={root}", classes, "--data.batch_size=4", "--data.num_workers=0"]
    assert fit(tmp_path / "run", data=data) == 2
    said = refused(tmp_path / "run", capsys)
    assert f"{mask}: a mask must be a palette or grayscale image of 8 bits, found mode {mode}" in said


def test_settings_of_numpy_are_kept_as_plain_numbers(tmp_path: Path) -> None:
    model = classifier(lr=np.float64(1e-3), backbone_args=TINY | {"init_values": np.float32(0.5)})
    trainer_of(tmp_path, fast_dev_run=True).fit(model, datamodule=shapes())
    kept = (model.hparams["lr"], model.hparams["backbone_args"]["init_values"])
    assert kept == (1e-3, 0.5)
    assert {type(value) for value in kept} == {float}


def test_a_setting_that_a_checkpoint_could_not_give_back_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agcam.training.backbone.load_weights", lambda *_: None)
    steps, trainer = Steps(), trainer_of(tmp_path)
    trainer.callbacks.append(steps)  # type: ignore[attr-defined]  # Lightning's list of callbacks
    with pytest.raises(
        InputError, match=r"the hyperparameter weights is a pathlib\.PosixPath, which no checkpoint can"
    ):
        trainer.fit(classifier(weights=Path("w.safetensors")), datamodule=shapes())
    assert steps.count == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model.warmup_epochs=3"], "model.warmup_epochs 3: training ends after 2"),
        (["--model.freeze_epochs=2", "--model.unfreeze_blocks_per_epoch=1"], "unfreeze_blocks_per_epoch has no effect"),
        (["--explain=false", "--explanation.gallery=3"], "--explanation.gallery: no effect with --explain false"),
    ],
)
def test_options_without_effect_are_named_once(
    more: list[str], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "agcam"):
        assert fit(tmp_path, *more) == 0
    assert caplog.text.count(said) == 1


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--data.cache_size=64", "data.cache_size 64 has no effect without data.cache"),
        ("--model.backbone_args={num_classes: 3}", "leave out num_classes"),
        (
            "--model.backbone_args={img_size: 48}",
            "model.image_size 32 and model.backbone_args img_size 48 say the same",
        ),
    ],
)
def test_options_that_another_would_overrule_are_refused(
    option: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, option) == 2
    assert said in refused(tmp_path, capsys)


def test_a_gallery_of_another_size_is_chosen_anew() -> None:
    callback, same, other = (ExplanationCallback(gallery=size, gallery_by="hardest") for size in (2, 2, 3))
    callback.selection.chosen = {"val": [4, 5]}
    for resumed, chosen in ((same, {"val": [4, 5]}), (other, {})):
        resumed.load_state_dict(callback.state_dict())
        assert resumed.selection.chosen == chosen


def test_a_batch_of_another_size_is_refused_when_it_would_resume() -> None:
    data, other = shapes(), shapes(batch_size=2)
    for module in (data, other):
        module.setup("fit")
    loader = data.train_dataloader()
    other.train_dataloader().load_state_dict({"epoch": 0, "batches": 1})  # type: ignore[attr-defined]  # as before sizes were kept
    with pytest.raises(InputError, match="processes is 2, the checkpoint's run has 4"):
        other.train_dataloader().load_state_dict(loader.state_dict())  # type: ignore[attr-defined]  # a TrainingLoader
