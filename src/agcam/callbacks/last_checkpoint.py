"""Keep `last.ckpt` the last state, whatever a `ModelCheckpoint` monitors."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import proxy

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging


class LastCheckpoint(ModelCheckpoint):
    """Write `last.ckpt` in place of a `ModelCheckpoint(save_last=True)`, whenever that one is due and at the end.

    Since Lightning 2.6 the original writes `last.ckpt` only together with a new best checkpoint, and never before its
    monitor is logged: a run that stops improving would resume where it was best. A checkpoint is due after so many
    epochs (validated or not), steps or minutes as the original's arguments say, and after a validation within an
    epoch. One file is kept; as with Lightning's own, that of another run in the same folder is left alone.

    Args:
        saver: the original; its `last_model_path` is kept up to date.
    """

    def __init__(self, saver: ModelCheckpoint) -> None:
        super().__init__(
            dirpath=saver.dirpath,
            filename=saver.CHECKPOINT_NAME_LAST,
            save_on_exception=saver.save_on_exception,
            save_weights_only=saver.save_weights_only,
            every_n_train_steps=saver._every_n_train_steps,
            train_time_interval=saver._train_time_interval,
            every_n_epochs=saver._every_n_epochs,
            save_on_train_epoch_end=saver._save_on_train_epoch_end,
            enable_version_counter=saver._enable_version_counter,
        )
        self._saver = saver

    @property
    def state_key(self) -> str:
        """A key of its own for each saver, so that several can stand in one checkpoint."""
        return self._generate_state_key(of=self._saver.state_key)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the state of the last step, after weights were averaged."""
        if any(isinstance(c, StochasticWeightAveraging) for c in trainer.callbacks):  # type: ignore[attr-defined]  # Lightning's list of callbacks
            self._last_global_step_saved = -1
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Write the state where the original would."""
        if self._should_save_on_exception(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def _should_save_on_train_epoch_end(self, trainer: L.Trainer) -> bool:
        # False after a validation that is not at the end of an epoch
        at_end = not trainer.validating or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        return bool(self._save_on_train_epoch_end) or at_end

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        self._saver.last_model_path = filepath
        trainer.save_checkpoint(filepath, self.save_weights_only)
        self._last_global_step_saved = trainer.global_step
        self._last_checkpoint_saved = filepath
        if trainer.is_global_zero:
            for logger in trainer.loggers:  # they ask the callback that they get which checkpoint is best
                logger.after_save_checkpoint(proxy(self._saver))


def keep_last(callbacks: Sequence[L.Callback]) -> list[L.Callback]:
    """Return `callbacks` with a `LastCheckpoint` after each `ModelCheckpoint(save_last=True)`, to write in its place.

    `save_last="link"` stays as it is where every due checkpoint is written, so that there is a file to link to.
    """
    kept: list[L.Callback] = []
    for callback in callbacks:
        kept.append(callback)
        if isinstance(callback, ModelCheckpoint) and callback.save_last and not _links_to_all(callback):
            kept.append(LastCheckpoint(callback))
            callback.save_last = False
    return kept


def _links_to_all(saver: ModelCheckpoint) -> bool:
    every = saver.save_top_k != 0 if saver.monitor is None else saver.save_top_k == -1 and bool(saver.every_n_epochs)
    return saver.save_last == "link" and every
