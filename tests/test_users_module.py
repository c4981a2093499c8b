"""The LightningModule of a user in README.md and docs/explain.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import WandbLogger
from torch.utils.data import DataLoader, TensorDataset

from reading import column, wandb_run

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["README.md", "docs/explain.md"])
def test_metrics_and_pictures_of_a_users_module_arrive_in_an_offline_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    (code,) = [block for block in blocks if "LightningModule" in block]
    images = torch.randn(6, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(images, torch.arange(6) % 5), batch_size=4)
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="theirs")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {"train_loader": loader, "val_loader": loader, "logger": logger})
    logger.experiment.finish()
    history, _ = wandb_run(tmp_path)
    assert len(column(history, "val/loss")) == 2
    assert len(column(history, "val/loc/entropy")) == 2
    assert len(column(history, "val/loc/drift")) == 1
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/val/explanations*"))) == 2 * 6
