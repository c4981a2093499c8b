"""A callback that does to a run what happens to runs; an environment variable says what, so the command stays."""

from __future__ import annotations

import os
import signal
from typing import Any

import lightning as L

FAULT = "AGCAM_TEST_FAULT"


class Fault(L.Callback):
    """`kill:STEP[:RANK]`, `raise:STEP[:RANK]`; `kill_in_save:N` before the n-th checkpoint is in its place."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        kind, number, *_ = (*os.environ.get(FAULT, "").split(":"), "0")
        if kind == "kill_in_save":
            _kill_at_fsync(int(number))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        kind, step, rank = (*os.environ.get(FAULT, "").split(":"), "0", "0")[:3]
        if kind and trainer.global_step == int(step) and trainer.global_rank == int(rank):
            if kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "raise":
                raise ValueError("the disk is full\nand more of it")


def _kill_at_fsync(number: int) -> None:
    real, calls = os.fsync, iter(range(1, 10**6))

    def fsync(descriptor: int) -> None:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)

    os.fsync = fsync
