"""A callback that does to a run what happens to runs; an environment variable says what, so the command stays."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import resource
import signal
import termios
import time
from pathlib import Path
from typing import Any

import lightning as L

FAULT = "AGCAM_TEST_FAULT"
SIGNALS = {
    "interrupt": signal.SIGINT,
    "interrupt_slow": signal.SIGINT,
    "terminate": signal.SIGTERM,
    "requeue": signal.SIGUSR1,
}
_terminals: list[int] = []


def on_a_terminal() -> None:
    """Put this process on a terminal of its own, which it can close."""
    os.setsid()
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
    for descriptor in (0, 1, 2):
        os.dup2(theirs, descriptor)
    os.close(theirs)
    _terminals.append(ours)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and a closed terminal says nothing


class Fault(L.Callback):
    """What happens at a step, and in which process if not in the first.

    `kill:STEP[:RANK]`, `raise:STEP[:RANK]`; `kill_in_save:N` before the n-th checkpoint is in its place;
    `kill_worker:STEP` kills a loader worker; `interrupt:STEP` is Ctrl-C, after `interrupt_slow:STEP` the run takes a
    minute to end; `terminate:STEP` is SIGTERM, `terminate_validation:BATCH` while it validates, `requeue:STEP` SLURM's
    SIGUSR1 before the time is up; `hang_up:STEP` closes the terminal that `on_a_terminal` gave it; `full:STEP` refuses
    files of more than 100 kB; `unlink:STEP:PATH:PATH…` removes files; `nan_pixels:STEP[:RANK[:COUNT]]` spoils the first
    image of as many steps' batches, `nan_gradient:STEP[:RANK]` a gradient.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        kind, number, *_ = (*os.environ.get(FAULT, "").split(":"), "0")
        if kind == "kill_in_save":
            _kill_at_fsync(int(number))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        kind, step, *rest = (*os.environ.get(FAULT, "").split(":"), "0")
        if kind == "unlink" and trainer.global_step == int(step):
            for path in rest[:-1]:
                Path(path).unlink()
            return
        rank = rest[0] if rest else "0"
        if kind and trainer.global_step == int(step) and trainer.global_rank == int(rank):
            if kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind in SIGNALS:
                os.kill(os.getpid(), SIGNALS[kind])
            if kind == "hang_up":
                os.close(_terminals.pop())
                time.sleep(10)  # the signal comes at once
            if kind == "full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            if kind == "kill_worker":
                os.kill(next(worker.pid for worker in multiprocessing.active_children()), signal.SIGKILL)
            if kind == "raise":
                raise ValueError("the disk is full\nand more of it")
        if kind == "nan_pixels" and _hit(trainer):
            batch.image[0] = float("nan")

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if os.environ.get(FAULT) == f"terminate_validation:{batch_idx}":
            os.kill(os.getpid(), signal.SIGTERM)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if os.environ.get(FAULT, "").startswith("interrupt_slow"):
            time.sleep(60)

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if os.environ.get(FAULT, "").startswith("nan_gradient") and _hit(trainer):
            gradient = next(p.grad for p in pl_module.parameters() if p.grad is not None)
            gradient.flatten()[0] = float("nan")


def _hit(trainer: L.Trainer) -> bool:
    """Whether this process's step is one of those to spoil."""
    _, step, rank, count = (*os.environ[FAULT].split(":"), *("0", "1")[max(0, os.environ[FAULT].count(":") - 1) :])
    return trainer.global_rank == int(rank) and 0 <= trainer.global_step - int(step) < int(count)


def _kill_at_fsync(number: int) -> None:
    real, calls = os.fsync, iter(range(1, 10**6))

    def fsync(descriptor: int) -> None:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)

    os.fsync = fsync
