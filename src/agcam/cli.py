"""The training command: LightningCLI over `ViTClassifier`, a data set and the explanation callback."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from agcam import data  # noqa: F401  # so that --data CUB200 is known by its short name
from agcam.callbacks.explanation import ExplanationCallback
from agcam.callbacks.summary import SummaryCallback
from agcam.classifier import ViTClassifier
from agcam.data.module import ImageDataModule
from agcam.errors import AgcamError
from agcam.tracking import log_config
from agcam.weights import read_checkpoint


class TrainCLI(LightningCLI):
    """`fit`, `validate` and `test` as LightningCLI users know them, with `--explanation.*` beside `--model.*`."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, without `predict`: explain.py shows predictions better."""
        return {name: hidden for name, hidden in LightningCLI.subcommands().items() if name != "predict"}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and look at the checkpoint before LightningCLI reads it: its own errors are tracebacks."""
        super().parse_arguments(parser, args)
        path = self.config[self.config["subcommand"]].get("ckpt_path")
        if path and path not in ("best", "last", "hpc", "registry"):
            read_checkpoint(Path(path))

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the explanation callback."""
        parser.add_lightning_class_args(ExplanationCallback, "explanation")


class _SaveConfig(SaveConfigCallback):
    """Saves the configuration beside the run and hands it to the trackers."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        log_config(trainer.loggers, json.loads(self.parser.dump(self.config, skip_none=False, format="json")))


def main(args: Sequence[str] | None = None) -> int:
    """Run the training command; returns its exit status. A bad input is one line on stderr."""
    try:
        TrainCLI(
            ViTClassifier,
            ImageDataModule,
            subclass_mode_data=True,
            save_config_callback=_SaveConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            trainer_defaults={"callbacks": [SummaryCallback()]},
            args=list(args) if args is not None else None,
        )
    except AgcamError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  # the command's own voice
        return 2
    return 0
