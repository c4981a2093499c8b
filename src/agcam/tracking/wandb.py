"""Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from lightning.pytorch.loggers import Logger, WandbLogger

from agcam.errors import InputError
from agcam.io.names import relative
from agcam.tracking.drawing import Drawing
from agcam.tracking.registry import Tracker, register_tracker
from agcam.visualization.captions import GAP
from agcam.visualization.overlay import side_by_side


def begin(logger: WandbLogger) -> None:
    """Refuse to start an online run without a key. W&B would ask for one, and a job in a queue has nobody to answer.

    Raises:
        InputError: naming the ways out.
    """
    if logger._wandb_init.get("anonymous") is None:  # Lightning hands it on, and W&B warns that it has no effect
        logger._wandb_init.pop("anonymous", None)
    given = logger._wandb_init.get("mode") or os.environ.get("WANDB_MODE")
    mode = "offline" if logger._offline else given or wandb.setup().settings.mode
    # the command's own summary says where an offline run is and how to upload it
    if mode == "offline" and logger._wandb_init.get("settings") is None:
        logger._wandb_init["settings"] = {"silent": True}
    if mode in ("online", "shared") and wandb.run is None and not wandb.login(prompt=False):
        raise InputError(
            "W&B has no API key. Log in (wandb login), set WANDB_API_KEY, or record the run on this machine: "
            "WANDB_MODE=offline, or offline: true for the WandbLogger in the configuration"
        )


def log_config(logger: WandbLogger, config: dict[str, Any]) -> None:
    """Add to the run's config."""
    logger.experiment.config.update(config, allow_val_change=True)


def log_panel(logger: WandbLogger, drawings: Sequence[Drawing], info: dict[str, Any]) -> None:
    """Log an image panel: overlays with the object's boxes and pixels to switch on and off.

    Of a mistaken image the overlay of what the model said stands beside that of the label; white stands beside the
    others then, since W&B shows the images of a panel in one size.
    """
    pictures = [side_by_side(drawing.overlays, GAP) for drawing in drawings]
    width = max((picture.shape[1] for picture in pictures), default=0)
    logger.log_image(
        f"{info['stage']}/explanations",
        [_widened(picture, width, 255) for picture in pictures],
        step=info["step"],
        caption=[drawing.caption for drawing in drawings],
        file_type=["jpg"] * len(drawings),
        **_objects(drawings, width),
    )


def log_table(logger: WandbLogger, rows: Sequence[dict[str, Any]], drawings: Sequence[Drawing], step: int) -> None:
    """Log a table that can be sorted, filtered and, as an artifact, compared between runs."""
    objects = _objects(drawings)
    table = wandb.Table(columns=["image", "heatmap", *rows[0]])
    for number, (row, drawing) in enumerate(zip(rows, drawings, strict=True)):
        image = wandb.Image(
            drawing.image,
            file_type="jpg",
            boxes=objects["boxes"][number],
            masks=objects["masks"][number],
        )
        table.add_data(image, wandb.Image(side_by_side(drawing.overlays, GAP), file_type="jpg"), *row.values())
    logger.log_metrics({"explanations": table}, step)  # type: ignore[dict-item]  # Lightning passes on what W&B takes


def place(logger: WandbLogger) -> dict[str, str]:
    """Return the run's page, or the folder of an offline run and the command that uploads it."""
    if not logger.experiment.offline:
        return {"W&B run": str(logger.experiment.url)}
    folder = relative(Path(logger.experiment.dir).parent.resolve())
    return {"W&B run": f"{folder} (wandb sync {folder})"}


def run_id(loggers: Sequence[Logger]) -> str | None:
    """Return W&B's id of the run, if it tracks it; on the first process."""
    return next((logger.version for logger in loggers if isinstance(logger, WandbLogger)), None)


def continue_run(loggers: Any, run: str) -> None:
    """Let the W&B loggers of a parsed `trainer.logger` configuration resume a run, unless they name one."""
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        if wandb_project(logger) and logger.init_args.get("id") is None and logger.init_args.get("version") is None:
            logger.init_args["id"] = run


def wandb_project(logger: Any) -> str | None:
    """Return the project in a parsed logger configuration, as Lightning's W&B logger finds it; None for others."""
    if str(getattr(logger, "class_path", "")).rpartition(".")[2] != WandbLogger.__name__:
        return None
    return str(logger.init_args.get("project") or os.environ.get("WANDB_PROJECT", "lightning_logs"))


def _widened(pixels: np.ndarray, width: int, fill: int) -> np.ndarray:
    """Append columns of `fill` at the right of (H, W, …) until it is `width` wide."""
    missing = max(0, width - pixels.shape[1])
    return np.pad(pixels, ((0, 0), (0, missing), (0, 0))[: pixels.ndim], constant_values=fill)


def _objects(drawings: Sequence[Drawing], width: int = 0) -> dict[str, list[dict[str, Any] | None]]:
    """Return for each drawing its boxes and its mask, as W&B lays them over an image that is at least `width` wide."""
    labels = dict(enumerate(sorted({drawing.shown.explained for drawing in drawings}), start=1))
    ids = {name: number for number, name in labels.items()}
    boxes: list[dict[str, Any] | None] = []
    masks: list[dict[str, Any] | None] = []
    for drawing in drawings:
        explained = drawing.shown.explained
        data = [
            {
                "position": {"minX": float(b[0]), "minY": float(b[1]), "maxX": float(b[2]), "maxY": float(b[3])},
                "domain": "pixel",
                "class_id": ids[explained],
                "box_caption": explained,
            }
            for b in drawing.boxes
        ]
        boxes.append({"ground_truth": {"box_data": data, "class_labels": labels}})
        pixels = None if drawing.mask is None else _widened(drawing.mask * ids[explained], width, 0)
        masks.append(pixels if pixels is None else {"object": {"mask_data": pixels, "class_labels": labels}})
    return {"boxes": boxes, "masks": masks}


register_tracker(
    Tracker(
        WandbLogger,
        begin=begin,
        log_config=log_config,
        log_panel=log_panel,
        log_table=log_table,
        place=place,
        # W&B counts a run's steps without a lock
        in_thread=False,
    )
)
