"""`run.json`: when a run trained, with which versions, on what and for how long; the report says so."""

from __future__ import annotations

import json
import platform
import time
from contextlib import suppress
from functools import partial
from typing import Any

import lightning as L

from agcam.benchmark.summarize import environment
from agcam.io.json import RECORD, write_json
from agcam.tracking import run_dir
from agcam.tracking.tracker_guard import attempt


class RunRecord(L.Callback):
    """Writes `run.json` after every epoch: `date` of the start, `versions`, `device`, `processes`, `seconds`.

    The seconds of a resumed run in the same folder are added to those before; what a killed run did after its last
    epoch is not in them.
    """

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._before, self._started = 0.0, 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the record, or continue that of the run that is resumed."""
        if not self._records(trainer):
            return
        found: dict[str, Any] = {}
        with suppress(OSError, ValueError, TypeError):  # none, or one that something else broke: it is begun anew
            found = dict(json.loads((run_dir(trainer) / RECORD).read_bytes()))
        seconds = found.get("seconds")
        self._before = float(seconds) if isinstance(seconds, int | float) else 0.0
        self._started = time.monotonic()
        here = environment()
        if trainer.strategy.root_device.type == "cpu":
            here["device"] = f"{platform.machine()} CPU"
        date = found.get("date") if isinstance(found.get("date"), str) else here["date"]
        self._known = here | {"date": date, "processes": trainer.world_size}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what there is."""
        self._write(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write all."""
        self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        if self._known and self._records(trainer):
            seconds = round(self._before + time.monotonic() - self._started, 1)
            path = run_dir(trainer) / RECORD
            attempt(self, partial(write_json, path, self._known | {"seconds": seconds}))

    def _records(self, trainer: L.Trainer) -> bool:
        return bool(trainer.is_global_zero and trainer.loggers and not getattr(trainer, "fast_dev_run", False))
