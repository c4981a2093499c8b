"""Options that other LightningCLI commands have and this one does not."""

from __future__ import annotations

import argparse
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

_OWN = (
    "expected null: the classifier makes its own (AdamW with a rate for each layer, warm-up and cosine); set "
    "--model.lr, --model.weight_decay, --model.layer_decay and --model.warmup_epochs"
)


def add_replaced(parser: LightningArgumentParser) -> None:
    """Add `--optimizer` and `--lr_scheduler`, which may be null only, as in configurations of earlier runs."""
    for name in ("optimizer", "lr_scheduler"):
        parser.add_argument(f"--{name}", type=_null, default=None, help=argparse.SUPPRESS)


def _null(value: Any) -> None:
    if value not in (None, "null"):
        raise argparse.ArgumentTypeError(_OWN)
