"""Progress of training for logs: lines instead of a bar."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn

from agcam.console.progress import Lines, duration, print_line


class ProgressLines(ProgressBar):
    """Print a line for each epoch, with its metrics and the time left, and one every half minute of a long epoch.

    It replaces Lightning's bar where the output is not a terminal: a bar in a file is readable only at its end.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._lines = Lines("", 0, "")
        self._started = self._epoch_started = 0.0
        self._first = 0

    @property
    def is_enabled(self) -> bool:
        """Whether it prints, as Lightning asks its own bars."""
        return self._enabled

    def disable(self) -> None:
        """Print nothing; Lightning calls it on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._started, self._first = time.monotonic(), trainer.current_epoch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the lines of an epoch."""
        self._epoch_started = time.monotonic()
        self._lines = Lines(self._epoch(trainer), self.total_train_batches, "batches")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count."""
        self._advance()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the epoch's time and metrics."""
        if not self._enabled:
            return
        now, done = time.monotonic(), trainer.current_epoch + 1
        told = [duration(now - self._epoch_started)]
        if trainer.max_epochs is not None and done < trainer.max_epochs:
            told.append(f"{duration((now - self._started) / (done - self._first) * (trainer.max_epochs - done))} left")
        metrics = self.get_metrics(trainer, pl_module)
        told += [f"{name} {value:.3f}" for name, value in metrics.items() if isinstance(value, float)]
        print_line(f"{self._epoch(trainer)}: {', '.join(told)}")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the lines of a validation."""
        self._lines = Lines("validation", sum(trainer.num_val_batches), "batches")

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Count."""
        if not trainer.sanity_checking:
            self._advance()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the last line, unless it is part of an epoch."""
        if self._enabled and trainer.state.fn == TrainerFn.VALIDATING:
            self._lines.say()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the lines of a test."""
        self._lines = Lines("test", sum(trainer.num_test_batches), "batches")

    def on_test_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Count."""
        self._advance()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the last line."""
        if self._enabled:
            self._lines.say()

    def _advance(self) -> None:
        if self._enabled:
            self._lines.advance(1)

    def _epoch(self, trainer: L.Trainer) -> str:
        known = trainer.max_epochs is not None and trainer.max_epochs > 0
        return f"epoch {trainer.current_epoch + 1}" + (f" of {trainer.max_epochs}" if known else "")
