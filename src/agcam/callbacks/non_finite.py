"""What becomes of a training step whose loss or gradients are NaN or infinite: it stops the run, or is left out."""

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
    """A batch of the step: where it is in the epoch, its images' names and losses (B,)."""

    batch: int
    names: list[str]
    losses: Tensor


class NonFiniteGuard(L.Callback):
    """Looks at losses and gradients before each optimizer step, so that none writes NaN into weights or checkpoints.

    All processes decide alike: the step is good if it is good on each. A step that is left out changes neither weights
    nor the optimizer's moments; the schedule of the learning rate goes on. Under 16-mixed precision gradients may
    overflow, which the scaler answers by itself: there the losses alone are looked at.

    Args:
        on_nan: "stop" with an error that names epoch, batch and images, or "skip" the step and count it, logged as
            `train/skipped_steps`.
    """

    def __init__(self, on_nan: OnNan = "stop") -> None:
        self.on_nan = on_nan
        self.skipped = 0
        """Steps left out since the run began."""
        self._skipped_before = 0
        self._forwards: list[_Forward] = []

    def state_dict(self) -> dict[str, Any]:
        """The count, which goes on in a run that is resumed."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped = self._skipped_before = int(state_dict["skipped"])

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note how many there were."""
        self._skipped_before = self.skipped

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Note which images are about to be shown."""
        self._forwards.append(_Forward(batch_idx, batch.name, torch.empty(0)))

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Note their losses."""
        losses: Any = pl_module.step_losses
        self._forwards[-1] = self._forwards[-1]._replace(losses=losses)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Stop or leave the step out if it would not be finite.

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
        where = f"epoch {trainer.current_epoch}, batch {batch} (step {trainer.global_step})"
        if self.on_nan == "stop":
            raise TrainingError(
                f"{where}: {found}. The step was not taken and no checkpoint holds it; try a smaller --model.lr, "
                "--trainer.gradient_clip_val 1 or a wider --trainer.precision, or leave such steps out: --on_nan skip"
            )
        self.skipped += 1
        if trainer.is_global_zero:
            trainer.print(f"skipped: {where}: {found}")
        optimizer.zero_grad(set_to_none=True)  # an optimizer does nothing at all to what has no gradient

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the count.

        Raises:
            TrainingError: if the epoch had no step that could be taken.
        """
        if self.on_nan != "skip":
            return
        pl_module.log("train/skipped_steps", float(self.skipped), rank_zero_only=True)
        steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        if self.skipped - self._skipped_before >= steps:
            raise TrainingError(
                f"epoch {trainer.current_epoch}: none of its {steps} steps was finite, so training has stopped"
            )


def _finite(losses: Sequence[Tensor], gradients: Sequence[Tensor]) -> bool:
    """Whether all numbers are; as a rule with one look at the device."""
    norms = [torch.nn.utils.get_total_norm(gradients)] if gradients else []
    norms += [rows.float().sum() for rows in losses if len(rows)]
    if not norms or bool(torch.stack([norm.float().to(norms[0].device) for norm in norms]).isfinite().all()):
        return True
    # squares and sums of what is finite may overflow
    return all(bool(numbers.isfinite().all()) for numbers in [*losses, *gradients])


def _bad_names(forward: _Forward) -> list[str]:
    return [forward.names[row] for row in (~forward.losses.isfinite()).nonzero().flatten().tolist()]


def _describe(names: Sequence[str]) -> str:
    if not names:
        return "the gradients are not finite, though every image's loss is"
    rest = f" … and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"the loss is not finite for {', '.join(names[:_MOST_NAMES])}{rest}"
