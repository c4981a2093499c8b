"""A scheduler's SIGTERM stops a run as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment


class StopCallback(L.Callback):
    """Answers SIGTERM as the command did before Lightning took it over.

    Lightning would end the run after the current batch and with exit status 0; and among processes its answer is an
    exchange that waits for all of them, in whatever exchange they are. Where Lightning has SLURM requeue the job, which
    takes a checkpoint and a call that nothing may break off, SIGTERM stays Lightning's alone.
    """

    def __init__(self) -> None:
        self._before: Any = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Note who answers, before Lightning registers."""
        self._before = None
        if threading.current_thread() is not threading.main_thread():  # where nobody may say who answers
            return
        if _requeues(trainer):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning would call it, too
        elif callable(answer := signal.getsignal(signal.SIGTERM)):
            self._before = answer

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Answer again: whichever of these comes first, Lightning has just registered."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    on_train_start = on_validation_start = on_test_start = on_sanity_check_start


def _requeues(trainer: L.Trainer) -> bool:
    environment = trainer._accelerator_connector.cluster_environment
    return isinstance(environment, SLURMEnvironment) and environment.auto_requeue
