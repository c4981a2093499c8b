"""Check before the first step that what callbacks and schedulers watch will be logged."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from agcam.callbacks.explanation import ExplanationCallback
from agcam.callbacks.non_finite import NonFiniteGuard
from agcam.callbacks.scoring import WITHOUT_OBJECTS
from agcam.data.module import ImageDataModule
from agcam.errors import InputError
from agcam.training.classifier import ViTClassifier

warn = rank_zero_only(logging.getLogger(__name__).warning)
_ONE_LABEL, _SEVERAL_LABELS = ("val/accuracy", "val/top5"), ("val/mAP",)
_KNOWN_CODE = ("agcam.", "lightning.", "pytorch_lightning.")


@dataclass(frozen=True)
class Monitor:
    """A callback or scheduler that watches a metric.

    Attributes:
        who: its class.
        name: of the metric.
        every: how many epochs lie between two readings.
    """

    who: str
    name: str
    every: int = 1


class MonitorCheck(L.Callback):
    """Refuse, before training, monitors of metrics that will not be logged; Lightning does after the first epoch."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare the monitors of callbacks and schedulers with what will be logged.

        Raises:
            InputError: for a monitor that no validation, explanation or training step logs. Where foreign code may
                log it, there is a warning instead.
        """
        if getattr(trainer, "fast_dev_run", False) or not isinstance(pl_module, ViTClassifier):
            return
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it
        names = pl_module.logged_names()
        explanation = next((c for c in callbacks if isinstance(c, ExplanationCallback)), None)
        if explanation is not None:
            data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it at run time
            names += explanation.logged_names(
                data.val_dataloader().dataset if isinstance(data, ImageDataModule) else None
            )
        if any(isinstance(c, NonFiniteGuard) and c.on_nan == "skip" for c in callbacks):
            names.append("train/skipped_steps")
        if not trainer.enable_validation:
            names = [name for name in names if name.startswith("train/")]
        foreign = type(pl_module) is not ViTClassifier or any(
            not type(c).__module__.startswith(_KNOWN_CODE) for c in callbacks
        )
        for monitor in _monitors(trainer, callbacks):
            if monitor.name not in names:
                _refuse(monitor, names, foreign, explanation is not None)
            elif explanation is not None and monitor.name.startswith("val/loc"):
                _check_pace(monitor, explanation)


def _monitors(trainer: L.Trainer, callbacks: list[L.Callback]) -> Iterator[Monitor]:
    """Yield the monitors that stop training if their metric is missing."""
    for callback in callbacks:
        name, who = getattr(callback, "monitor", None), type(callback).__name__
        if not isinstance(name, str) or getattr(callback, "strict", True) is False:
            continue
        if not isinstance(callback, ModelCheckpoint):
            yield Monitor(who, name)
        elif callback.save_top_k != 0 and name not in ("epoch", "step"):
            yield Monitor(who, name, max(1, callback._every_n_epochs))
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau and config.strict and config.monitor:
            yield Monitor(type(config.scheduler).__name__, config.monitor, config.frequency)


def _check_pace(monitor: Monitor, explanation: ExplanationCallback) -> None:
    """Refuse to watch explanations in epochs that have none, or the drift where no epoch came before."""
    drift = monitor.name.endswith("/drift")
    pace = explanation.every_n_epochs * (2 if drift else 1)
    if monitor.every % pace:
        when = "not in the first explained epoch" if drift else f"every {pace} epochs (--explanation.every_n_epochs)"
        raise InputError(
            f"{monitor.who} watches {monitor.name} every {monitor.every} epochs, but it is logged {when}; give "
            f"ModelCheckpoint every_n_epochs: {pace}, others strict: false"
        )


def _refuse(monitor: Monitor, names: list[str], foreign: bool, explained: bool) -> None:
    """Raise `InputError`, or warn if `foreign` code may log what is watched."""
    about_loc = [name for name in names if "/loc" in name]
    known = [name for name in names if name not in about_loc]
    listed = ", ".join(known) + (f" and {len(about_loc)} such as {about_loc[0]}" if about_loc else "")
    said = (
        f"{monitor.who} watches {monitor.name!r}, which is not logged: {_reason(monitor.name, names, explained)}. "
        f"Logged are {listed}"
    )
    if not foreign:
        raise InputError(said)
    warn("%s; if no callback or model of your own logs it, training stops after its first epoch", said)


def _reason(name: str, names: list[str], explained: bool) -> str:
    if name in (*_ONE_LABEL, *_SEVERAL_LABELS) and "val/loss" in names:
        return f"it belongs to {'single' if name in _ONE_LABEL else 'multi'}-label data, and these are not"
    if name.startswith("val/loc") and not explained:
        return "explanations are switched off (--explain false)"
    if name.startswith("val/") and "val/loss" not in names:
        return "there is no validation"
    if name.startswith("val/loc") and "val/loc/iou" not in names and not name.endswith(WITHOUT_OBJECTS):
        return "the validation images have no objects of the kind that --explanation.ground_truth names"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else "no metric has a similar name"
