"""`agcam lr_find` and `agcam scale_batch_size`: Lightning's Tuner, with its results printed and written."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.tuner.tuning import Tuner
from rich.console import Console

from agcam.callbacks.failure import FailureCallback
from agcam.errors import InputError
from agcam.io.atomic import make_folder, whole_file

TUNING = ("lr_find", "scale_batch_size")
_NEVER = 10**9


class TuningTrainer(L.Trainer):
    """Lightning's Trainer with its Tuner as methods, which LightningCLI makes subcommands of."""

    def lr_find(
        self,
        model: L.LightningModule,
        datamodule: L.LightningDataModule | None = None,
        min_lr: float = 1e-6,
        max_lr: float = 0.1,
        num_training: int = 100,
        mode: Literal["exponential", "linear"] = "exponential",
        early_stop_threshold: float | None = 4.0,
    ) -> None:
        """Suggest the learning rate at which the loss falls most steeply while the rate rises step by step.

        The search gives all layers one rate (it ignores `model.layer_decay`) and leaves the model as it was.
        Writes lr_find.csv and lr_find.png into the run's folder.

        Args:
            model: the model.
            datamodule: the data.
            min_lr: the first rate.
            max_lr: the last rate.
            num_training: steps from one to the other.
            mode: how the rate rises.
            early_stop_threshold: stop once the loss exceeds the smallest loss times this; null for never.
        """
        if num_training < 1 or not 0 < min_lr < max_lr:
            raise InputError(
                f"--num_training is {num_training}, --min_lr {min_lr:g}, --max_lr {max_lr:g}; expected at least one "
                "step and 0 < min_lr < max_lr"
            )
        folder = self._prepare()
        # enough epochs for all steps, and no validation between them
        self.fit_loop.max_epochs = max(self.max_epochs or 1, num_training)
        self.check_val_every_n_epoch = _NEVER
        finder = Tuner(self).lr_find(
            model,
            datamodule=datamodule,
            min_lr=min_lr,
            max_lr=max_lr,
            num_training=num_training,
            mode=mode,
            early_stop_threshold=early_stop_threshold,
            update_attr=False,
        )
        if finder is None:
            raise InputError("lr_find does nothing with --trainer.fast_dev_run; leave that out")
        if not self.is_global_zero:
            return
        _write(folder / "lr_find.csv", ["lr", "loss"], zip(finder.results["lr"], finder.results["loss"], strict=False))
        suggestion = finder.suggestion()
        figure: Any = finder.plot(suggest=suggestion is not None)
        with whole_file(folder / "lr_find.png") as part:
            figure.savefig(part, format="png", dpi=120)
        if suggestion is None:
            raise InputError(
                f"{folder / 'lr_find.csv'}: {len(finder.results['loss'])} steps are too few to suggest a learning "
                "rate; give a larger --num_training, or a smaller --max_lr if the loss exploded"
            )
        _say(f"suggested: --model.lr {suggestion:.2e}", folder / "lr_find.png")

    def scale_batch_size(
        self,
        model: L.LightningModule,
        datamodule: L.LightningDataModule | None = None,
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_val: int = 8192,
    ) -> None:
        """Find the largest batch that fits into memory, by doubling it until it does not fit.

        Explanations are switched off during the search, and need a little more memory. On a CPU give --max_val: only
        the end of the machine's memory stops the search otherwise. Writes scale_batch_size.csv into the run's folder.

        Args:
            model: the model.
            datamodule: the data.
            steps_per_trial: steps with each size.
            init_val: the first size to try.
            max_val: the largest size to try.
        """
        if not 1 <= init_val <= max_val:
            raise InputError(f"--init_val is {init_val}, expected at least 1 and at most --max_val {max_val}")
        folder = self._prepare()
        found = Tuner(self).scale_batch_size(
            model,
            datamodule=datamodule,
            steps_per_trial=steps_per_trial,
            init_val=init_val,
            batch_arg_name="batch_size",
            max_val=max_val + 1,
        )
        if found is None:
            raise InputError("scale_batch_size does nothing with --trainer.fast_dev_run; leave that out")
        if found > max_val:  # Lightning stopped before it tried this size
            found //= 2
        if not self.is_global_zero:
            return
        _write(folder / "scale_batch_size.csv", ["batch_size", "max_val"], [(found, max_val)])
        _say(f"largest batch: --data.batch_size {found}", folder / "scale_batch_size.csv")

    def _prepare(self) -> Path:
        """Make and return the run's folder; switch off trackers, checkpoints and explanations."""
        folder = Path(self.log_dir or self.default_root_dir)
        make_folder(folder)
        self.loggers = []
        callbacks: list[L.Callback] = self.callbacks  # type: ignore[attr-defined]  # Lightning sets it
        callbacks[:] = [c for c in callbacks if isinstance(c, (ProgressBar, FailureCallback))]
        return folder


def _write(path: Path, head: list[str], rows: Any) -> None:
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)


def _say(what: str, where: Path) -> None:
    console = Console()
    console.print(what, soft_wrap=True, highlight=False)
    console.print(f"see {where}", soft_wrap=True, highlight=False)
