"""Progress of training on a terminal: Lightning's bar, with epochs counted from 1 and results alone beside it."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar


class EpochBar(RichProgressBar):
    """Show "Epoch 1/4" for the first of four epochs, without the run's number and the sanity check's accuracies."""

    @classmethod
    def like(cls, bar: RichProgressBar) -> EpochBar:
        """Make one with the options of a bar of Lightning's."""
        return cls(bar._refresh_rate, bar._leave, bar.theme, bar._console_kwargs)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Return the metrics to show."""
        found: dict[str, Any] = super().get_metrics(trainer, pl_module)
        return {} if trainer.sanity_checking else {name: value for name, value in found.items() if name != "v_num"}

    def _get_train_description(self, current_epoch: int) -> str:
        last = self.trainer.max_epochs
        said = f"Epoch {current_epoch + 1}" + (f"/{last}" if last is not None and last > 0 else "")
        return said.ljust(len(self.validation_description))  # as long as its neighbor, so that nothing jumps
