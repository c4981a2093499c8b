"""Stop or skip training steps whose loss or gradients are NaN or infinite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import lightning as L
import torch
from torch import Tensor

from agcam.callbacks.gallery import gather
from agcam.data.batch import Batch
from agcam.errors import TrainingError

OnNan = Literal["stop", "skip"]
_MOST_NAMES = 5


class _Forward(NamedTuple):
    """A batch of the step: its number in the epoch, the names of its images and their losses (B,)."""

    batch: int
    names: list[str]
    losses: Tensor


class NonFiniteGuard(L.Callback):
    """Check losses and gradients before each optimizer step, so that NaN never reaches weights or checkpoints.

    All processes decide together: a step is taken if it is finite on all of them. A skipped step changes neither the
    weights nor the optimizer's moments; the learning rate follows its schedule. With 16-mixed precision gradients may
    overflow, which the scaler handles: there only the losses are checked.

    Args:
        on_nan: "stop" with an error that names epoch, batch and images, or "skip" the step and log their number as
            `train/skipped_steps`.
    """

    def __init__(self, on_nan: OnNan = "stop") -> None:
        self.on_nan = on_nan
        self.skipped = 0
        """Steps skipped since the run began."""
        self._skipped_before = 0
        self._forwards: list[_Forward] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the number of skipped steps, for the checkpoint."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of skipped steps."""
        self.skipped = self._skipped_before = int(state_dict["skipped"])

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember how many steps were skipped before this epoch."""
        self._skipped_before = self.skipped

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Remember the images of the batch."""
        self._forwards.append(_Forward(batch_idx, batch.name, torch.empty(0)))

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Remember the losses of the batch."""
        losses: Any = pl_module.step_losses
        self._forwards[-1] = self._forwards[-1]._replace(losses=losses)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Stop, or skip the step, if a loss or gradient is not finite.

        Raises:
            TrainingError: on every process, if the run is to stop.
        """
        forwards, self._forwards = self._forwards, []
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        finite = _finite([forward.losses for forward in forwards], [] if scaled else gradients)
        if trainer.strategy.reduce_boolean_decision(finite, all=True):
            return
        bad = gather([(f.batch, name) for f in forwards for name in _bad_names(f)])
        batch = min((batch for batch, _ in bad), default=forwards[-1].batch)
        found = _describe([name for _, name in bad])
        where = f"epoch {trainer.current_epoch + 1}, batch {batch} (step {trainer.global_step})"
        if self.on_nan == "stop":
            raise TrainingError(
                f"{where}: {found}. The step was not taken and no checkpoint holds it; try a smaller --model.lr, "
                "--trainer.gradient_clip_val 1 or a wider --trainer.precision, or skip such steps: --on_nan skip"
            )
        self.skipped += 1
        if trainer.is_global_zero:
            trainer.print(f"skipped: {where}: {found}")
        optimizer.zero_grad(set_to_none=True)  # an optimizer ignores parameters without a gradient

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the number of skipped steps.

        Raises:
            TrainingError: if all steps of the epoch were skipped.
        """
        if self.on_nan != "skip":
            return
        pl_module.log("train/skipped_steps", float(self.skipped), rank_zero_only=True)
        steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        if self.skipped - self._skipped_before >= steps:
            raise TrainingError(
                f"epoch {trainer.current_epoch + 1}: none of its {steps} steps was finite, so training has stopped"
            )


def _finite(losses: Sequence[Tensor], gradients: Sequence[Tensor]) -> bool:
    """Return whether all numbers are finite; usually with a single transfer from the device."""
    norms = [torch.nn.utils.get_total_norm(gradients)] if gradients else []
    norms += [rows.float().sum() for rows in losses if len(rows)]
    if not norms or bool(torch.stack([norm.float().to(norms[0].device) for norm in norms]).isfinite().all()):
        return True
    # squares and sums of finite numbers may overflow
    return all(bool(numbers.isfinite().all()) for numbers in [*losses, *gradients])


def _bad_names(forward: _Forward) -> list[str]:
    return [forward.names[row] for row in (~forward.losses.isfinite()).nonzero().flatten().tolist()]


def _describe(names: Sequence[str]) -> str:
    if not names:
        return "the gradients are not finite, though every image's loss is"
    rest = f" … and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"the loss is not finite for {', '.join(names[:_MOST_NAMES])}{rest}"
