"""Training runs of a second: a tiny ViT, generated shapes, and a look at its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from agcam.callbacks.exact_resume import ExactResume
from agcam.data.shapes import Shapes
from agcam.data.transforms import Augmentation
from agcam.training.classifier import ViTClassifier

TINY = {"patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}


def classifier(**args: Any) -> ViTClassifier:
    args = {"image_size": 32, "backbone_args": TINY, "layer_decay": 1.0, "lr": 1e-3} | args
    torch.manual_seed(0)
    return ViTClassifier("vit_tiny_patch16_224", **args)


def shapes(multilabel: bool = False, **args: Any) -> Shapes:
    plain = Augmentation(scale=1.0, color=0.0)
    args = {"batch_size": 4, "num_workers": 0, "augmentation": plain} | args
    return Shapes(train_size=20, val_size=6, test_size=6, multilabel=multilabel, **args)


def trainer_of(folder: Path, *callbacks: L.Callback, **args: Any) -> L.Trainer:
    L.seed_everything(3, verbose=False)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    saves = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    args = {"accelerator": "cpu", "max_epochs": 2, "enable_checkpointing": saves, "num_sanity_val_steps": 0} | args
    return L.Trainer(default_root_dir=folder, callbacks=[ExactResume(), *callbacks], **quiet, **args)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def fit(folder: Path, data: Shapes | None = None, trainer: dict[str, Any] | None = None, **args: Any) -> ViTClassifier:
    model = classifier(**args)
    trainer_of(folder, **trainer or {}).fit(model, datamodule=data or shapes())
    return model


class Watch(L.Callback):
    """Keeps the weights at the end of each training epoch, and what was trained then."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []
        self.moments: list[int] = []
        self.trainable: list[int] = []
        self.rates: list[float] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.weights.append(weights(pl_module.backbone))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.weights.append(weights(pl_module.backbone))
        self.moments.append(len(trainer.optimizers[0].state))
        self.trainable.append(sum(p.requires_grad for p in pl_module.parameters()))

    def on_before_zero_grad(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def changed(self, epoch: int) -> set[str]:
        before, after = self.weights[epoch], self.weights[epoch + 1]
        names = [name.split(".") for name in after if not torch.equal(before[name], after[name])]
        return {parts[0] + (parts[1] if parts[0] == "blocks" else "") for parts in names}
