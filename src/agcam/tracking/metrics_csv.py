"""Metrics and settings on disk, by Lightning's CSVLogger, whatever becomes of the other trackers."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from agcam.io.atomic import whole_file, write_whole
from agcam.tracking.registry import Tracker, register_tracker


def claim_folder(logger: CSVLogger | TensorBoardLogger) -> None:
    """Make the `version_N` of a logger that is to find one by itself: another run may be looking at the same time."""
    while logger._version is None and "://" not in str(logger.save_dir):
        try:
            Path(logger.log_dir).mkdir(parents=True)
        except FileExistsError:
            logger._version = None


def run_dir(trainer: L.Trainer) -> Path:
    """Return the run's folder; on the first process."""
    csv = next((logger for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)
    return Path(trainer.default_root_dir if csv is None else csv.log_dir)


def add_csv_logger(trainer: L.Trainer) -> None:
    """Add a CSVLogger to a trainer that has other loggers only, in the folder that Lightning gives its checkpoints.

    A trainer without any logger is to leave none behind, and gets none.
    """
    loggers = trainer.loggers
    if not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False) or not loggers:
        return
    if any(isinstance(logger, CSVLogger) for logger in loggers):
        return
    first = loggers[0]
    version = first.version if isinstance(first.version, str) else f"version_{first.version}"
    logger = CSVLogger(first.save_dir or trainer.default_root_dir, str(first.name), version)
    logger._experiment = _Writer(logger.log_dir)
    trainer.loggers = [*loggers, logger]


class _Writer(ExperimentWriter):
    """Lightning's writer for a folder that holds other loggers' files and a resumed run's metrics."""

    def _check_log_dir_exists(self) -> None:
        """Lightning deletes metrics here."""


def keep_metrics(loggers: Sequence[Logger]) -> None:
    """Let the CSV loggers write with `save_metrics`."""
    for logger in loggers:
        if isinstance(logger, CSVLogger) and "://" not in str(logger.log_dir):
            vars(logger.experiment).setdefault("save", partial(save_metrics, logger.experiment))
            vars(logger.experiment).setdefault("log_hparams", partial(save_hparams, logger.experiment))


def save_metrics(writer: Any) -> None:
    """Write the rows that a CSV logger has collected; as Lightning's own, but a failure loses none of them.

    Lightning takes down new columns before it has written them, and would later put rows under a header without them;
    and it empties the file to write a longer header, which on a full disk stays empty.

    Args:
        writer: the logger's `experiment`.
    """
    if not writer.metrics:
        return
    path = Path(writer.metrics_file_path)
    columns = sorted({*writer.metrics_keys, *(name for row in writer.metrics for name in row)})
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns)
    if columns == writer.metrics_keys and path.exists():
        table.writerows(writer.metrics)
        size = path.stat().st_size
        try:
            with path.open("a", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
        except OSError:
            os.truncate(path, size)
            raise
    else:
        before: list[dict[str, str]] = []
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                columns = table.fieldnames = sorted({*columns, *(reader.fieldnames or [])})
                before = list(reader)
        table.writeheader()
        table.writerows(before)
        table.writerows(writer.metrics)
        write_whole(path, text.getvalue().encode())
    writer.metrics_keys, writer.metrics = columns, []


def save_hparams(writer: ExperimentWriter, params: dict[str, Any]) -> None:
    """Write `hparams.yaml` as Lightning does, but whole or not at all."""
    writer.hparams.update(params)
    with whole_file(Path(writer.log_dir) / writer.NAME_HPARAMS_FILE) as part:
        save_hparams_to_yaml(part, writer.hparams)


def log_config(logger: CSVLogger, config: dict[str, Any]) -> None:
    """Write `config.yaml`, unless it is there: LightningCLI writes it into the first logger's folder."""
    path = Path(logger.log_dir) / "config.yaml"
    if not path.exists():
        write_whole(path, yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())


register_tracker(Tracker(CSVLogger, log_config=log_config))
