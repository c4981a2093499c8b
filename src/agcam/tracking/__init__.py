"""Where metrics, pictures and settings go: the one place that knows trackers. The disk is one of them.

Each tracker is a module with the functions of `Tracker`; a logger that none of them knows gets the metrics that
Lightning gives it. Nothing here raises once training has begun: see `guard`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import lightning as L
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from agcam.errors import AgcamError, InputError
from agcam.io.explained_images import Shown
from agcam.io.names import relative, safe_name
from agcam.tracking import disk, mlflow, tensorboard, wandb
from agcam.tracking.disk import DiskWriter, run_dir
from agcam.tracking.drawing import Drawing, table_rows
from agcam.tracking.tracker_guard import attempt, first_line, install
from agcam.tracking.wandb import continue_run, run_id, wandb_project

__all__ = [
    "DiskWriter",
    "continue_run",
    "log_config",
    "log_panel",
    "log_table",
    "open_trackers",
    "places",
    "protect",
    "relative",
    "run_dir",
    "run_id",
    "safe_name",
    "wandb_project",
]


class Tracker(Protocol):
    """What a tracker's module offers; `logger` is Lightning's."""

    def begin(self, logger: Any) -> None:
        """Open the run; whatever it raises stops the command before training."""

    def log_config(self, logger: Any, config: dict[str, Any]) -> None:
        """Record all settings of the run."""

    def log_panel(self, logger: Any, drawings: Sequence[Drawing], info: dict[str, Any]) -> None:
        """Show an epoch's pictures; `info` names its stage, epoch and step."""

    def log_table(self, logger: Any, rows: Sequence[dict[str, Any]], drawings: Sequence[Drawing], step: int) -> None:
        """Show the last epoch's figures image by image."""

    def place(self, logger: Any) -> dict[str, str]:
        """Where people find the run, by what it is called."""


_TRACKERS: list[tuple[type[Logger], Tracker]] = [
    (CSVLogger, disk),
    (WandbLogger, wandb),
    (TensorBoardLogger, tensorboard),
    (MLFlowLogger, mlflow),
]


def open_trackers(loggers: Sequence[Logger]) -> None:
    """Open every tracker's run, so that one that cannot begin stops the command and not a night of training.

    Raises:
        InputError: naming the tracker and what it wants.
    """
    for logger in loggers:
        tracker = _tracker(logger)
        try:
            if tracker is not None:
                tracker.begin(logger)
            if isinstance(logger, CSVLogger | TensorBoardLogger) and getattr(rank_zero_only, "rank", 0) == 0:
                disk.claim_folder(logger)
            getattr(logger, "experiment", None)
        except AgcamError:
            raise
        except Exception as error:
            raise InputError(
                f"{type(logger).__name__} cannot begin a run: {first_line(error)}; mend that, or leave it out of "
                "trainer.logger"
            ) from error


def protect(trainer: L.Trainer) -> None:
    """See to it that metrics reach the disk, and that no logger can stop the run. Twice does no harm."""
    disk.add_csv_logger(trainer)
    if trainer.is_global_zero:
        disk.keep_metrics(trainer.loggers)
    install(trainer.loggers)


def log_config(loggers: Sequence[Logger], config: dict[str, Any]) -> None:
    """Give every tracker the run's full configuration."""
    for logger in loggers:
        if tracker := _tracker(logger):
            attempt(logger, partial(tracker.log_config, logger, config))


def log_panel(
    loggers: Sequence[Logger], writer: DiskWriter, folder: Path, shown: Sequence[Shown], info: dict[str, Any]
) -> None:
    """Write an epoch's pictures to disk and hand them to every tracker.

    Args:
        loggers: the trainer's.
        writer: does all that another thread can do.
        folder: gets a folder for the epoch.
        shown: in the order in which they are shown; one at least.
        info: `stage`, `epoch` and the trainer's global `step`, and what else the report may want to know.
    """
    drawings = [Drawing(entry) for entry in shown]
    epoch = folder / f"{info['stage']}_epoch_{info['epoch']:03d}"
    writer.submit(writer, partial(disk.write_epoch, epoch, drawings, info))
    for logger in loggers:
        if isinstance(logger, WandbLogger):  # its run counts rows, and not under a lock
            attempt(logger, partial(wandb.log_panel, logger, drawings, info))
        elif tracker := _tracker(logger):
            writer.submit(logger, partial(tracker.log_panel, logger, drawings, info))


def log_table(loggers: Sequence[Logger], shown: Sequence[Shown], info: dict[str, Any]) -> None:
    """Give every tracker the figures of the shown images, one row each, as they are at the end."""
    drawings = [Drawing(entry) for entry in shown]
    rows = table_rows(drawings)
    for logger in loggers:
        if tracker := _tracker(logger):
            attempt(logger, partial(tracker.log_table, logger, rows, drawings, info["step"]))


def places(loggers: Sequence[Logger]) -> dict[str, str]:
    """Where people find the run in each tracker; on the first process."""
    found: dict[str, str] = {}
    for logger in loggers:
        if tracker := _tracker(logger):
            found |= tracker.place(logger)
    return found


def _tracker(logger: Logger) -> Tracker | None:
    return next((tracker for kind, tracker in _TRACKERS if isinstance(logger, kind)), None)
