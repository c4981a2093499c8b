"""Let a cluster's SIGTERM stop a run as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment


class StopCallback(L.Callback):
    """Answer SIGTERM with the command's own handler instead of Lightning's.

    Lightning's would end the run after the current batch with exit status 0, and with several processes it waits for
    all of them, even if they are in the middle of another exchange. Where Lightning has SLURM requeue the job, which
    must not be interrupted, SIGTERM is left to Lightning.
    """

    def __init__(self) -> None:
        self._before: Any = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Remember the current handler, before Lightning registers its own."""
        self._before = None
        if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
            return
        if _requeues(trainer):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning would call the old handler, too
        elif callable(answer := signal.getsignal(signal.SIGTERM)):
            self._before = answer

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore the handler: Lightning has registered its own just before the first of these hooks."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    on_train_start = on_validation_start = on_test_start = on_sanity_check_start


def _requeues(trainer: L.Trainer) -> bool:
    environment = trainer._accelerator_connector.cluster_environment
    return isinstance(environment, SLURMEnvironment) and environment.auto_requeue
