"""The disk: pictures, the panel that the report reads, settings and metrics, whatever becomes of the trackers."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from agcam.io.atomic import whole_file, write_whole
from agcam.io.explained_images import write_panel
from agcam.tracking.drawing import Drawing
from agcam.tracking.tracker_guard import attempt
from agcam.visualization import overlay as render


class DiskWriter:
    """Draws and writes pictures in a thread of its own, so that training need not wait for it."""

    def __init__(self) -> None:
        # made when first needed: a thread cannot be pickled, and launchers that spawn pickle callbacks
        self._thread: ThreadPoolExecutor | None = None
        self._unfinished: list[Future[None]] = []

    def submit(self, who: object, action: Callable[[], None]) -> None:
        """Have something done for a tracker, after all that was submitted before; see `attempt`."""
        self._unfinished = [future for future in self._unfinished if not future.done()]
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pictures")
        self._unfinished.append(self._thread.submit(partial(attempt, who, action)))

    def wait(self) -> None:
        """Wait until everything is done."""
        while self._unfinished:
            self._unfinished.pop(0).result()


def claim_folder(logger: CSVLogger | TensorBoardLogger) -> None:
    """Make the `version_N` of a logger that is to find one by itself: another run may be looking at the same time."""
    while logger._version is None and "://" not in str(logger.save_dir):
        try:
            Path(logger.log_dir).mkdir(parents=True)
        except FileExistsError:
            logger._version = None


def run_dir(trainer: L.Trainer) -> Path:
    """Where the run's files lie; on the first process."""
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
    """Lightning's own, in a folder that holds other loggers' files and the metrics of a run that goes on."""

    def _check_log_dir_exists(self) -> None:
        """Lightning deletes metrics here."""


def keep_metrics(loggers: Sequence[Logger]) -> None:
    """Have the CSV loggers write with `save_metrics`."""
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


def write_epoch(folder: Path, drawings: Sequence[Drawing], info: dict[str, Any]) -> None:
    """Write a PNG for each drawing, all of them as `gallery.png`, and the panel."""
    folder.mkdir(parents=True, exist_ok=True)
    for drawing in drawings:
        render.save_png(drawing.pair, folder / f"{drawing.name}.png")
    render.save_png(render.contact_sheet([drawing.pair for drawing in drawings]), folder / "gallery.png")
    write_panel(folder, [drawing.shown for drawing in drawings], info)


def begin(logger: CSVLogger) -> None:
    """Nothing to prepare."""


def log_config(logger: CSVLogger, config: dict[str, Any]) -> None:
    """Write `config.yaml`, unless it is there: LightningCLI writes it into the first logger's folder."""
    path = Path(logger.log_dir) / "config.yaml"
    if not path.exists():
        write_whole(path, yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())


def log_panel(logger: CSVLogger, drawings: Sequence[Drawing], info: dict[str, Any]) -> None:
    """Nothing: `write_epoch` writes pictures for runs without a logger, too."""


def log_table(logger: CSVLogger, rows: Sequence[dict[str, Any]], drawings: Sequence[Drawing], step: int) -> None:
    """Nothing: the last epoch's panel holds all of it."""


def place(logger: CSVLogger) -> dict[str, str]:
    """Nothing: the summary names the files of every run."""
    return {}
