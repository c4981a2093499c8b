"""Where metrics, pictures and settings go: the one place that knows trackers. The disk is one of them.

Each tracker is a file that declares itself in `registry`; a logger that none of them serves gets the metrics that
Lightning gives it. Nothing here raises once training has started: see `tracker_guard`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from agcam.errors import AgcamError, InputError
from agcam.io.epoch_folders import COUNTED, count_from_one, epoch_folder
from agcam.io.explained_images import ExplainedImage
from agcam.metrics.classification.by_class import ClassFigures
from agcam.tracking import mlflow, tensorboard  # noqa: F401  # they declare themselves
from agcam.tracking.drawing import Drawing, table_rows
from agcam.tracking.metrics_csv import add_csv_logger, claim_folder, keep_metrics, run_dir
from agcam.tracking.pictures import DiskWriter, write_epoch
from agcam.tracking.registry import Tracker, register_tracker, tracker_of
from agcam.tracking.tracker_guard import attempt, first_line, guard_loggers
from agcam.tracking.wandb import continue_run, run_id, wandb_project

__all__ = [
    "DiskWriter",
    "Tracker",
    "continue_run",
    "count_from_one",
    "log_config",
    "log_panel",
    "log_table",
    "open_trackers",
    "places",
    "protect",
    "register_tracker",
    "run_dir",
    "run_id",
    "wandb_project",
]


def open_trackers(loggers: Sequence[Logger]) -> None:
    """Open every tracker's run, so that one that cannot start ends the command now, not a night of training.

    Raises:
        InputError: naming the tracker and what it wants.
    """
    for logger in loggers:
        try:
            tracker_of(logger).begin(logger)
            if isinstance(logger, CSVLogger | TensorBoardLogger) and getattr(rank_zero_only, "rank", 0) == 0:
                claim_folder(logger)
            getattr(logger, "experiment", None)
        except AgcamError:
            raise
        except Exception as error:
            raise InputError(
                f"{type(logger).__name__} cannot start a run: {first_line(error)}; fix that, or leave it out of "
                "trainer.logger"
            ) from error


def protect(trainer: L.Trainer) -> None:
    """Write metrics to disk in any case, and keep loggers from stopping the run. Calling it twice does no harm."""
    add_csv_logger(trainer)
    if trainer.is_global_zero:
        keep_metrics(trainer.loggers)
    guard_loggers(trainer.loggers)


def log_config(loggers: Sequence[Logger], config: dict[str, Any]) -> None:
    """Give every tracker the run's full configuration."""
    for logger in loggers:
        attempt(logger, partial(tracker_of(logger).log_config, logger, config))


def log_panel(
    loggers: Sequence[Logger],
    writer: DiskWriter,
    folder: Path,
    shown: Sequence[ExplainedImage],
    info: dict[str, Any],
    classes: ClassFigures | None = None,
) -> None:
    """Write an epoch's pictures to disk and hand them to every tracker.

    Args:
        loggers: the trainer's.
        writer: does the work that another thread can do.
        folder: gets a folder for the epoch.
        shown: in the order in which they are shown; one at least.
        info: `stage`, `epoch` (from 1) and the trainer's global `step`, and what else the report may want to know.
        classes: the figures class by class; on disk only.
    """
    drawings = [Drawing(entry) for entry in shown]
    epoch = folder / epoch_folder(info["stage"], info["epoch"])
    writer.submit(writer, partial(write_epoch, epoch, drawings, info | COUNTED, classes))
    for logger in loggers:
        tracker = tracker_of(logger)
        (writer.submit if tracker.in_thread else attempt)(logger, partial(tracker.log_panel, logger, drawings, info))


def log_table(loggers: Sequence[Logger], shown: Sequence[ExplainedImage], info: dict[str, Any]) -> None:
    """Give every tracker the final scores of the explained images, one row each."""
    drawings = [Drawing(entry) for entry in shown]
    rows = table_rows(drawings)
    for logger in loggers:
        attempt(logger, partial(tracker_of(logger).log_table, logger, rows, drawings, info["step"]))


def places(loggers: Sequence[Logger]) -> dict[str, str]:
    """Return where to find the run in each tracker; on the first process."""
    found: dict[str, str] = {}
    for logger in loggers:
        found |= tracker_of(logger).place(logger)
    return found
