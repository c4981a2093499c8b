"""A LightningModule of a user, who knows nothing of agcam but its callback, and its validation by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import timm
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from agcam.callbacks.explanation import ExplanationCallback

IMAGES = torch.randn(11, 3, 32, 32, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(11) % 5


class Users(L.LightningModule):
    """What people write: a ViT with a head of their own kind, and steps on (x, y)."""

    def __init__(self, unpack: Callable[[Any], tuple[Tensor, Tensor]] = lambda batch: batch) -> None:
        super().__init__()
        torch.manual_seed(0)
        size = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
        self.backbone = timm.create_model("vit_tiny_patch16_224", num_classes=0, **size)
        self.backbone.head = nn.Sequential(nn.Linear(48, 16), nn.GELU(), nn.Linear(16, 5))
        self.unpack = unpack

    def _loss(self, batch: Any) -> Tensor:
        x, y = self.unpack(batch)
        logits = self.backbone(x)
        return F.cross_entropy(logits, y) if y.dim() == 1 else F.binary_cross_entropy_with_logits(logits, y.float())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._loss(batch)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._loss(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 1e-3)


def loader(collate_fn: Any = None, labels: Tensor = LABELS, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(IMAGES, labels), batch_size=4, collate_fn=collate_fn, **options)


def trainer(folder: Path, callback: L.Callback, **options: Any) -> L.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return L.Trainer(default_root_dir=folder, accelerator="cpu", callbacks=[callback], **quiet, **options)


def main(arguments: Sequence[str]) -> int:
    """Validate, and log to a folder: the arguments are folder and number of processes; others are left out."""
    folder, processes = Path(arguments[0]), int(arguments[1])
    several = {"devices": processes, "strategy": "ddp" if processes > 1 else "auto"}
    logged = trainer(folder, ExplanationCallback(gallery=32), logger=CSVLogger(folder, name=""), **several)
    logged.validate(Users(), loader(), verbose=False)
    return 0
