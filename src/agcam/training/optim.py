"""The optimizer and its learning rates: layer-wise groups, linear warm-up, cosine decay."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import lightning as L
import timm.optim
import torch
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from agcam.errors import ModelError

warn = rank_zero_only(logging.getLogger(__name__).warning)


def optimizer_and_schedule(
    backbone: nn.Module,
    trainer: L.Trainer,
    *,
    lr: float,
    weight_decay: float,
    layer_decay: float,
    warmup_epochs: float,
) -> OptimizerLRScheduler:
    """Make AdamW over timm's layer-wise parameter groups, with a warm-up and cosine that count optimizer steps.

    Parameters without gradient are left out. On CUDA the optimizer is one fused kernel, except under
    16-mixed precision, where Lightning cannot clip gradients with it.

    A resumed run keeps moments and step count. Learning rates and weight decay come from the arguments: its next step
    has the rate of that step in a new run with these arguments.

    Raises:
        ModelError: if the training has no last step, where the cosine would end.
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
            "training has no last step, and the learning rate falls until there: give --trainer.max_epochs or "
            "--trainer.max_steps"
        )
    trainer.fit_loop.setup_data()  # does nothing if it was done; for max_steps alone Lightning did not have to look
    total = max(1, int(steps))
    an_epoch: Any = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    warmup = min(total - 1, round(warmup_epochs * an_epoch))
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": _Schedule(optimizer, warmup, total), "interval": "step"},
    }


def lr_factor(step: int, warmup: int, total: int) -> float:
    """Compute the learning-rate factor of a step: linear to 1 over `warmup` steps, then a cosine to 0 at `total`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


class _Schedule(LambdaLR):
    """`lr_factor` by step. A checkpoint restores only the step; torch's schedulers restore the old run's rates, too."""

    def __init__(self, optimizer: torch.optim.Optimizer, warmup: int, total: int) -> None:
        self.total = total
        self._decays = [group["weight_decay"] for group in optimizer.param_groups]
        super().__init__(optimizer, lambda step: lr_factor(step, warmup, total))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the step; write rates and weight decay into the optimizer, which was restored before this."""
        state = {name: state_dict[name] for name in ("last_epoch", "_step_count") if name in state_dict}
        super().load_state_dict(state | {"lr_lambdas": [None] * len(self.lr_lambdas)})
        groups = self.optimizer.param_groups
        for group, base, decay, of in zip(groups, self.base_lrs, self._decays, self.lr_lambdas, strict=True):
            group["initial_lr"], group["weight_decay"] = base, decay
            group["lr"] = base * of(self.last_epoch)
        self._last_lr = [group["lr"] for group in groups]
        if (before := state_dict.get("total", self.total)) != self.total:
            warn(
                "the run in the checkpoint was to take %d optimizer steps, this one takes %d: step %d has the learning "
                "rate that it has in a run of the new length",
                before,
                self.total,
                self.last_epoch,
            )


def warn_of_unreached(trainer: L.Trainer, settings: Mapping[str, Any]) -> None:
    """Warn of settings that count more epochs than the run has, so that they have no effect, or only a part of it.

    Args:
        trainer: about to fit.
        settings: arguments of `ViTClassifier`.
    """
    epochs = trainer.max_epochs
    if getattr(trainer, "fast_dev_run", False) or epochs is None or epochs < 1:
        return
    if settings["warmup_epochs"] > epochs:
        warn(
            "model.warmup_epochs %g: training ends after %d, so the learning rate rises until its last step",
            settings["warmup_epochs"],
            epochs,
        )
    if settings["freeze_epochs"] >= epochs:
        freed = " and model.unfreeze_blocks_per_epoch has no effect" if settings["unfreeze_blocks_per_epoch"] else ""
        warn("model.freeze_epochs %d freezes the backbone in all %d epochs%s", settings["freeze_epochs"], epochs, freed)
