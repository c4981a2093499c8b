"""`ExactResume`: resume a stopped run exactly, as if it had never stopped."""

from __future__ import annotations

import random
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn

from agcam.data.samplers import ResumableSampler, TrainingLoader, derive_seed, run_seed
from agcam.tracking import run_id
from agcam.training.plain_state import check_states


class ExactResume(L.Callback):
    """Make each training step depend on weights, optimizer and (seed, epoch, batch, process) alone, and resume there.

    Lightning restores weights, optimizer, schedule and counters. This callback restores the rest: random numbers, the
    position in the epoch's data, a validation that was due when the checkpoint was written, and, when the new run has
    a folder of its own, which checkpoint was best. Batch size and number of processes must be the same.
    """

    def __init__(self) -> None:
        self._seed: int | None = None
        self._data: dict[str, int] | None = None
        self._tracker_run: str | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the seed, and the id under which a tracker knows the run."""
        return {"seed": run_seed() if self._seed is None else self._seed, "tracker_run": self._tracker_run}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the seed that the run started with."""
        self._seed = int(state_dict["seed"])

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse, before hours are spent, states that could be saved but not resumed.

        Raises:
            InputError: as `check_states`.
        """
        if trainer.checkpoint_callbacks:
            check_states(trainer, pl_module)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Complete the state that Lightning is about to restore."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        loop = checkpoint.get("loops", {}).get("fit_loop", {})
        # the loader may exist by now, made to count its batches: Lightning would not tell it where to resume
        self._data = next(iter(loop.get("state_dict", {}).get("combined_loader", [])), None)
        if "epoch_loop.batch_progress" in loop:
            processed = loop["epoch_loop.batch_progress"]["current"]["processed"]
            if self._data is not None:  # a batch that was loaded but not processed is loaded again
                self._data["batches"] = min(self._data["batches"], processed)
            _finish_batch(trainer, loop)
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint.get("callbacks", {}).get(callback.state_key)
            if isinstance(callback, ModelCheckpoint) and state is not None:
                state["dirpath"] = callback.dirpath  # otherwise Lightning drops best score and paths

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell the loader where to resume, and with which seed."""
        self._tracker_run = run_id(trainer.loggers)
        _resume_averaging(trainer, pl_module)
        loader = trainer.train_dataloader
        if not isinstance(loader, TrainingLoader):
            return
        if self._data is not None:
            loader.load_state_dict(self._data)
            self._data = None
        if isinstance(loader.sampler, ResumableSampler) and self._seed is not None:
            loader.sampler.seed = self._seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the random numbers of the step: dropout, stochastic depth, Mixup."""
        seed = run_seed() if self._seed is None else self._seed
        step = derive_seed(seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(step)
        random.seed(step)
        np.random.seed(step % 2**32)  # noqa: NPY002  # timm's Mixup draws from it


def tracked_run(checkpoint: dict[str, Any]) -> str | None:
    """Return the id under which a tracker knows the run that wrote a checkpoint; None if there is none."""
    states = checkpoint.get("callbacks")
    state = states.get(ExactResume.__name__) if isinstance(states, dict) else None
    run = state.get("tracker_run") if isinstance(state, dict) else None
    return run if isinstance(run, str) else None


def _resume_averaging(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    """Restore the schedule of stochastic weight averaging now; it would wait for the next epoch's start."""
    for averaging in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning's list of callbacks
        if isinstance(averaging, StochasticWeightAveraging) and averaging._scheduler_state is not None:
            groups = trainer.optimizers[0].param_groups
            rates = [group["lr"] for group in groups]
            averaging.on_train_epoch_start(trainer, pl_module)
            for group, rate in zip(groups, rates, strict=True):  # making the schedule has already taken its first step
                group["lr"] = rate


def _finish_batch(trainer: L.Trainer, loop: dict[str, Any]) -> None:
    """Fix the counters of a checkpoint that was written between a training batch and the validation after it.

    Lightning would skip that validation, and at the end of an epoch also what happens there.
    """
    progress = loop["epoch_loop.batch_progress"]
    done = progress["current"]["processed"]
    written_after_batch = progress["current"]["completed"] == done - 1
    validates = written_after_batch and _validates(trainer, loop["epoch_progress"]["current"]["processed"], progress)
    if not validates and not (written_after_batch and progress["is_last_batch"]):
        return
    for count in (progress["current"], progress["total"]):
        count["completed"] = count["processed"]
    if validates:
        # as if the first batch of the validation had started
        total = loop["epoch_loop.val_loop.batch_progress"]["total"]
        total.update(ready=1, started=1, processed=0, completed=0)
        loop["epoch_loop.val_loop.batch_progress"]["current"].update(ready=0, started=0, processed=0, completed=0)
    else:
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] += 1


def _validates(trainer: L.Trainer, epoch: int, progress: dict[str, Any]) -> bool:
    """Return whether a validation follows the batch that `progress` ends with."""
    every = trainer.check_val_every_n_epoch
    if not trainer.enable_validation or (every is not None and (epoch + 1) % every):
        return False
    batches, interval = progress["current"]["ready"], trainer.val_check_interval
    if isinstance(interval, float):  # a share of the epoch, whose length is known here only at its end
        return bool(progress["is_last_batch"] and batches % max(1, int(batches * interval)) == 0)
    return bool((progress["total"]["ready"] if every is None else batches) % interval == 0)
