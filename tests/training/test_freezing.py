"""Which parameters train when."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from agcam.data import CUB200
from agcam.training.classifier import ViTClassifier
from agcam.training.weights import read_checkpoint
from command_lines import SMALL, TINY_MODEL
from processes import start_together
from reading import csv_rows
from small_runs import Watch, classifier, shapes, trainer_of


def test_the_head_trains_alone_then_blocks_join_from_the_top(tmp_path: Path) -> None:
    watch = Watch()
    args = {"freeze_epochs": 1, "unfreeze_blocks_per_epoch": 1, "weight_decay": 0.5, "lr": 0.01}
    trainer = trainer_of(tmp_path, watch, max_epochs=5, gradient_clip_val=0.1)
    model = classifier(**args)
    trainer.fit(model, datamodule=shapes())
    top_down = ["head", "norm blocks2", "blocks1", "blocks0", "cls_token pos_embed patch_embed"]
    for epoch in range(5):
        assert watch.changed(epoch) == set(" ".join(top_down[: epoch + 1]).split()), epoch
    assert watch.moments[0] == 2  # of the head's weight and bias: Adam knows nothing of what is frozen
    assert watch.trainable[0] == 2  # no backward through the backbone
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_two_processes_freeze_free_and_stay_alike(cub_root: Path, tmp_path: Path) -> None:
    flags = ("model.freeze_epochs=1", "model.unfreeze_blocks_per_epoch=1", "model.ema=0.9", "model.mixup=0.2")
    saving = (
        f"{{class_path: ModelCheckpoint, init_args: {{dirpath: {tmp_path}, filename: '{{epoch}}', save_top_k: -1}}}}"
    )
    logger = f"{{class_path: CSVLogger, init_args: {{save_dir: {tmp_path}, name: ''}}}}"
    run = {"max_epochs": 2, "logger": logger, "callbacks+": saving}
    data = {"root": cub_root, "batch_size": 4, "num_workers": 0, "balanced": "true"}
    arguments = ["fit", *SMALL, *TINY_MODEL, "--explain=false", "--data=CUB200", *(f"--{flag}" for flag in flags)]
    arguments += [f"--trainer.{name}={value}" for name, value in run.items()]
    arguments += [f"--data.{name}={value}" for name, value in data.items()]
    processes = start_together(arguments, tmp_path, 2)
    assert [process.wait() for process in processes] == [0, 0], processes[0].printed
    row = csv_rows(tmp_path / "version_0" / "metrics.csv")[-1]
    first, second = (read_checkpoint(tmp_path / f"epoch={epoch}.ckpt") for epoch in range(2))
    assert len(first["optimizer_states"][0]["state"]) == 2  # of the head
    before, after = first["current_model_state"], second["current_model_state"]
    changed = {name.split(".")[1:3][-1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"weight", "bias", "1"}  # head, norm and the last block
    # each process validated its half with its own weights; the checkpoint has those of the first
    alone = trainer_of(tmp_path).validate(
        ViTClassifier.from_checkpoint(tmp_path / "epoch=1.ckpt"),
        datamodule=CUB200(str(cub_root), num_workers=0),
        verbose=False,
    )
    assert row["val/loss"] == pytest.approx(alone[0]["val/loss"], abs=1e-5)


def test_a_linear_probe_trains_nothing_but_the_head(tmp_path: Path) -> None:
    watch = Watch()
    trainer = trainer_of(tmp_path, watch)
    trainer.fit(classifier(freeze_epochs=-1), datamodule=shapes())
    assert watch.changed(0) == watch.changed(1) == {"head"}
    assert sum(len(group["params"]) for group in trainer.optimizers[0].param_groups) == 2
