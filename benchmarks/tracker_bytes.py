"""Measure how many bytes an epoch's pictures take in each tracker: the default panel of 16 photographs at 224 px.

Run: python benchmarks/tracker_bytes.py  (needs scikit-learn for its two sample photographs, tensorboard and mlflow)
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}

import cv2
import numpy as np
import wandb
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from sklearn.datasets import load_sample_images

from agcam.io.explained_images import ExplainedImage
from agcam.tracking import DiskWriter, log_panel, log_table

IMAGES, EPOCHS, SIDE, GRID = 16, 3, 224, 14


def panel(epoch: int) -> list[ExplainedImage]:
    """Make a panel from crops of real photographs and heatmaps as smooth as a ViT's."""
    rng = np.random.default_rng(epoch)
    photographs = load_sample_images().images
    shown = []
    for number in range(IMAGES):
        photograph = photographs[number % 2]
        top, left = (number // 2 % 2) * 200, (number // 4) * 130
        crop = cv2.resize(photograph[top : top + 227, left : left + 227], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        heat = cv2.GaussianBlur(rng.random((GRID, GRID), dtype=np.float32) ** 4, (0, 0), 1.0)
        mask = np.zeros((SIDE, SIDE), bool)
        mask[40:180, 60:200] = True
        shown.append(
            ExplainedImage(
                index=number,
                name=f"photograph_{number}.jpg",
                image=np.ascontiguousarray(crop),
                explained="a class",
                truth=("a class",),
                predicted="another",
                probability=0.4,
                boxes=np.array([[60.0, 40.0, 200.0, 180.0]]),
                mask=mask,
                heatmaps={"agcam": heat, "random": heat, "center": heat},
                figures={method: dict.fromkeys(("iou", "pointing_game"), 0.5) for method in ("agcam", "random")},
            )
        )
    return shown


def size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def main() -> None:
    """Print bytes of the first and of a later epoch, and how long training waits for it."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ["WANDB_DATA_DIR"] = str(root / "staged")
        loggers = {
            "disk": CSVLogger(root / "disk", ""),
            "W&B": WandbLogger(save_dir=root / "wandb"),
            "TensorBoard": TensorBoardLogger(root / "tensorboard", ""),
            "MLflow": MLFlowLogger(
                tracking_uri=f"sqlite:///{root}/mlflow.db", artifact_location=(root / "mlflow").as_uri()
            ),
        }
        folders = {"disk": "explanations", "W&B": "wandb", "TensorBoard": "tensorboard", "MLflow": "mlflow"}
        for path in folders.values():
            (root / path).mkdir(exist_ok=True)
        for logger in loggers.values():
            _ = logger.experiment
        for tracker, logger in loggers.items():
            writer, waited, grown = DiskWriter(), [], []
            for epoch in range(EPOCHS):
                info = {"stage": "val", "epoch": epoch, "step": 100 * epoch}
                shown, before, began = panel(epoch), size(root / folders[tracker]), time.perf_counter()
                log_panel([logger], writer, root / "explanations", shown, info)
                waited.append(time.perf_counter() - began)
                writer.wait()
                if tracker == "TensorBoard":
                    logger.experiment.flush()
                time.sleep(1)
                grown.append(size(root / folders[tracker]) - before)
            log_table([logger], shown, info)
            print(
                f"{tracker:12} first epoch {grown[0] / 1e6:.2f} MB, later {grown[-1] / 1e6:.2f} MB; training waits "
                f"{1000 * min(waited):.0f} ms"
            )
        wandb.finish()
        print(f"W&B's final table {size(root / 'staged') / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
