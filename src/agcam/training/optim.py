"""The optimizer and its learning rates: layer-wise groups, linear warm-up, cosine decay."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import timm.optim
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn

from agcam.errors import ModelError


def optimizer_and_schedule(
    backbone: nn.Module,
    trainer: L.Trainer,
    *,
    lr: float,
    weight_decay: float,
    layer_decay: float,
    warmup_epochs: float,
) -> OptimizerLRScheduler:
    """AdamW over timm's layer-wise parameter groups, and a warm-up and cosine that count optimizer steps.

    Parameters that want no gradient are left out. On CUDA the optimizer is one fused kernel, except under
    16-mixed precision, where Lightning cannot clip gradients with it.

    Raises:
        ModelError: if the training has no end, so that no cosine leads there.
    """
    groups = timm.optim.param_groups_layer_decay(
        backbone,
        weight_decay=weight_decay,
        layer_decay=layer_decay,
        no_weight_decay_list=getattr(backbone, "no_weight_decay", set)(),
    )
    for group in groups:  # torch's schedulers know no `lr_scale`
        group["lr"] = lr * group.pop("lr_scale", 1.0)
    on_cuda = all(parameter.is_cuda for group in groups for parameter in group["params"])
    scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
    optimizer = torch.optim.AdamW(groups, lr=lr, fused=True if on_cuda and not scaled else None)
    steps = trainer.estimated_stepping_batches
    if not math.isfinite(steps):
        raise ModelError(
            "the learning rate falls until the last step: give --trainer.max_epochs or --trainer.max_steps"
        )
    trainer.fit_loop.setup_data()  # does nothing if it was done; for max_steps alone Lightning did not have to look
    total = max(1, int(steps))
    an_epoch: Any = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    warmup = min(total - 1, round(warmup_epochs * an_epoch))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step, warmup, total))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def factor(step: int, warmup: int, total: int) -> float:
    """Learning-rate factor: linear to 1 over `warmup` steps, then a cosine to 0 at `total`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))
