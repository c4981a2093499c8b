"""TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml
from lightning.pytorch.loggers import TensorBoardLogger

from agcam.io.names import relative
from agcam.tracking.drawing import Drawing, jpeg
from agcam.tracking.registry import Tracker, register_tracker


def log_config(logger: TensorBoardLogger, config: dict[str, Any]) -> None:
    """Log all settings as a text; Lightning logs the model's as hyperparameters."""
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    logger.experiment.add_text("config", "".join(f"    {line}\n" for line in text.splitlines()))


def log_panel(logger: TensorBoardLogger, drawings: Sequence[Drawing], info: dict[str, Any]) -> None:
    """Log a picture under a tag of its own for each image, so that the slider runs through the epochs.

    As JPEG: `add_image` writes PNG, five times as large.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [
        Summary.Value(
            tag=f"{info['stage']}/explanations/{drawing.name}",
            image=Summary.Image(
                height=drawing.captioned.shape[0],
                width=drawing.captioned.shape[1],
                colorspace=3,  # RGB
                encoded_image_string=jpeg(drawing.captioned),
            ),
        )
        for drawing in drawings
    ]
    # Lightning's own way to write what the writer has no method for
    logger.experiment._get_file_writer().add_summary(Summary(value=values), info["step"])


def log_table(
    logger: TensorBoardLogger, rows: Sequence[dict[str, Any]], drawings: Sequence[Drawing], step: int
) -> None:
    """Log a table as a text."""
    lines = [_line(rows[0]), _line("---" for _ in rows[0]), *(_line(map(_cell, row.values())) for row in rows)]
    logger.experiment.add_text("explanations", "\n".join(lines), step)


def place(logger: TensorBoardLogger) -> dict[str, str]:
    """Return the command that shows the run."""
    return {"TensorBoard": f"tensorboard --logdir {relative(logger.log_dir)}"}


def _line(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


register_tracker(
    Tracker(
        TensorBoardLogger,
        log_config=log_config,
        log_panel=log_panel,
        log_table=log_table,
        place=place,
    )
)
