"""Where pictures go. The one file that knows trackers; everything else hands it `Picture`s."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from lightning.pytorch.loggers import Logger, WandbLogger

from agcam import render

_SHOWN_SIDE = 224


@dataclass(frozen=True)
class Picture:
    """One explained image of the gallery.

    Attributes:
        index: position in the data set.
        name: the image's name.
        image: (H, W, 3) uint8 RGB, as the model saw it.
        heatmap: (h, w) float32 on the patch grid.
        explained: the class that the heatmap explains.
        truth: the classes that the image shows.
        predicted: the model's first choice.
        probability: of the explained class, in [0, 1].
        iou: of the thresholded heatmap with the object, in [0, 1]; NaN where the object is unknown.
        boxes: (n, 4) xyxy of the explained class, in pixels of `image`.
    """

    index: int
    name: str
    image: np.ndarray
    heatmap: np.ndarray
    explained: str
    truth: tuple[str, ...]
    predicted: str
    probability: float
    iou: float
    boxes: np.ndarray

    @property
    def caption(self) -> str:
        """One line for people."""
        iou = "" if np.isnan(self.iou) else f" · IoU {self.iou:.2f}"
        return (
            f"{self.name} · true: {', '.join(self.truth) or 'none'} · predicted: {self.predicted} · "
            f"shown: {self.explained} ({self.probability:.0%}){iou}"
        )


def log_pictures(
    loggers: Sequence[Logger], run_dir: Path, pictures: Sequence[Picture], stage: str, epoch: int, step: int
) -> None:
    """Write pictures to disk and hand them to every tracker that shows images.

    Args:
        loggers: the trainer's.
        run_dir: where the run's files lie; pictures go to `explanations/` below it.
        pictures: in the order in which they are shown.
        stage: "val" or "test".
        epoch: counted from 0.
        step: the trainer's global step, the x-axis that the metrics have too.
    """
    if not pictures:
        return
    _to_disk(run_dir / "explanations" / f"{stage}_epoch_{epoch:03d}", pictures)
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _to_wandb(logger, pictures, stage, step)


def log_config(loggers: Sequence[Logger], config: dict[str, Any]) -> None:
    """Give every tracker the run's full configuration."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.config.update(config, allow_val_change=True)


def tracker_folders(loggers: Sequence[Logger]) -> list[Path]:
    """The folders of offline W&B runs, relative to the working directory where they lie below it."""
    folders = []
    for logger in loggers:
        if isinstance(logger, WandbLogger) and logger.experiment.offline:
            folder = Path(logger.experiment.dir).parent.resolve()
            folders.append(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)
    return folders


def safe_name(name: str) -> str:
    """`name` as a file name that every file system takes."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[:80] or "image"


def _to_disk(folder: Path, pictures: Sequence[Picture]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    raw: dict[str, Any] = {}
    pairs = []
    for picture in pictures:
        file = f"{picture.index:06d}_{safe_name(picture.explained)}.png"
        image, boxes = _enlarged(picture)
        shown = [render.draw_boxes(image, boxes), render.overlay(image, picture.heatmap)]
        pairs.append(render.side_by_side(shown))
        render.save_png(pairs[-1], folder / file)
        raw[file.removesuffix(".png")] = picture.heatmap
        rows.append(
            {
                "file": file,
                "index": picture.index,
                "name": picture.name,
                "explained": picture.explained,
                "truth": "|".join(picture.truth),
                "predicted": picture.predicted,
                "probability": f"{picture.probability:.6f}",
                "iou": f"{picture.iou:.6f}",
            }
        )
    render.save_png(render.contact_sheet(pairs), folder / "gallery.png")
    part = folder / f".gallery.csv.{os.getpid()}.part"
    with part.open("w", newline="", encoding="utf-8") as file_out:
        writer = csv.DictWriter(file_out, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    part.replace(folder / "gallery.csv")
    part = folder / f".heatmaps.npz.{os.getpid()}.part"
    with part.open("wb") as raw_out:
        np.savez(raw_out, **raw)
    part.replace(folder / "heatmaps.npz")


def _to_wandb(logger: WandbLogger, pictures: Sequence[Picture], stage: str, step: int) -> None:
    images, boxes = [], []
    labels = dict(enumerate(sorted({picture.explained for picture in pictures})))
    ids = {name: number for number, name in labels.items()}
    for picture in pictures:
        image, scaled = _enlarged(picture)
        images.append(render.overlay(image, picture.heatmap))
        data = [
            {
                "position": {"minX": float(b[0]), "minY": float(b[1]), "maxX": float(b[2]), "maxY": float(b[3])},
                "domain": "pixel",
                "class_id": ids[picture.explained],
                "box_caption": picture.explained,
            }
            for b in scaled
        ]
        boxes.append({"ground_truth": {"box_data": data, "class_labels": labels}})
    captions = [picture.caption for picture in pictures]
    logger.log_image(f"{stage}/explanations", images, step=step, caption=captions, boxes=boxes)


def _enlarged(picture: Picture) -> tuple[np.ndarray, np.ndarray]:
    """Image and boxes, enlarged by a whole factor where the model's input is too small to look at."""
    factor = max(1, -(-_SHOWN_SIDE // min(picture.image.shape[:2])))
    if factor == 1:
        return picture.image, picture.boxes
    height, width = picture.image.shape[:2]
    large = cv2.resize(picture.image, (width * factor, height * factor), interpolation=cv2.INTER_NEAREST)
    return large, picture.boxes * factor
