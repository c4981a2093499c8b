"""What `agcam fit` prints at its begin and end: the model; a short table, checkpoints, files and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from rich.console import Console
from rich.table import Table

from agcam.callbacks.explanation import ExplanationCallback
from agcam.callbacks.non_finite import NonFiniteGuard
from agcam.callbacks.scoring import Scoring
from agcam.cli.own_command import own_command
from agcam.console.progress import open_console
from agcam.errors import brief
from agcam.explainers.registry import is_control
from agcam.io.names import relative
from agcam.report.write import write_report
from agcam.tracking import places, run_dir
from agcam.training.classifier import ViTClassifier

_COLUMNS = ("pixel_accuracy", "iou", "dice", "precision", "recall", "pointing_game")
_HEADS = {"iou": "IoU", "dice": "Dice"}
_SCORES = ("val/accuracy", "val/top5", "val/mAP", "val/loss")


class SummaryCallback(L.Callback):
    """Print the model before training; after it the last validation's values, the run's files and the next command."""

    quiet = False
    """Whether to write the report and print nothing."""
    describes_model = True
    """Whether to print the line about the model."""
    _best_score: float | None = None
    _best_epoch: int | None = None
    """Counted from 1."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line about the model on process 0."""
        if trainer.is_global_zero and self.describes_model and isinstance(pl_module, ViTClassifier):
            _print_line(open_console(self.quiet), "model", model_line(pl_module))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the best epoch of another run; which epoch of a resumed one was best is not known."""
        self._best_score, self._best_epoch = _best_score(trainer), None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note whether the epoch before was the best one."""
        self._note_best(trainer)

    def _note_best(self, trainer: L.Trainer) -> None:
        if (score := _best_score(trainer)) != self._best_score:
            self._best_score, self._best_epoch = score, trainer.current_epoch

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print on process 0."""
        if trainer.progress_bar_callback is not None:  # it would be drawn once more beneath the table
            trainer.progress_bar_callback.teardown(trainer, pl_module, "fit")
        if not trainer.is_global_zero:
            return
        self._note_best(trainer)
        console = open_console(self.quiet)
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        explanation = next((c for c in trainer.callbacks if isinstance(c, ExplanationCallback)), None)  # type: ignore[attr-defined]  # Lightning's list of callbacks
        if explanation is not None and figures.get("val/loc/count"):
            console.print(localization_table(figures, explanation.scoring))
        finite = next((c for c in trainer.callbacks if isinstance(c, NonFiniteGuard)), None)  # type: ignore[attr-defined]  # as above
        if finite is not None and finite.skipped:
            console.print(f"{finite.skipped} training steps were skipped: their loss or gradients were not finite")
        for what, where in _places(trainer, run_dir(trainer), figures, self._best_epoch):
            _print_line(console, what, where)


def say_pages(loggers: Sequence[Logger]) -> None:
    """Print where runs that are tracked by a server can be watched while they train."""
    for what, where in places(loggers).items():
        if "://" in where:
            _print_line(open_console(), what, where)


def model_line(model: ViTClassifier) -> str:
    """Describe a model in a line: backbone, input, classes, parameters."""
    sizes = [parameter.numel() for parameter in model.parameters()]
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    side, classes = model.input_config.size, len(model.class_names)
    frozen = "" if trained == sum(sizes) else f", {_count(trained)} of them trained at first"
    size = f"{_count(sum(sizes))} parameters{frozen}"
    return f"{model.hparams['backbone']}, {side} × {side} pixels, {classes} classes, {size}"


def localization_table(figures: dict[str, float], scoring: dict[str, Scoring]) -> Table:
    """Make a table of methods × localization values from logged metrics; the first method is `val/loc`."""
    title = f"Where the model looks: {int(figures['val/loc/count'])} heatmaps of the validation set"
    caption = "↑ higher is better; ± half of the 95 % interval over images"
    table = Table(title=title, caption=caption)
    table.add_column("method", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(f"{_HEADS.get(name, name.replace('_', ' '))} ↑", justify="right")
    for number, (method, scores) in enumerate(scoring.items()):
        prefix = "val/loc" if number == 0 else f"val/loc_{method}"
        errors = scores.means.standard_errors
        cells = [_cell(figures.get(f"{prefix}/{name}"), errors.get(name)) for name in _COLUMNS]
        table.add_row(f"{method} (control)" if is_control(method) else method, *cells)
    return table


def _cell(value: float | None, error: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if error is None else f"{value:.3f} ±{1.96 * error:.3f}"


def _places(
    trainer: L.Trainer, folder: Path, figures: dict[str, float], best_epoch: int | None
) -> list[tuple[str, str]]:
    """Return what there is and where, in the order in which it is printed."""
    found: list[tuple[str, str]] = []
    saver = _saver(trainer)
    best = saver.best_model_path if saver is not None else ""
    last = saver.last_model_path if saver is not None else ""
    scores = " · ".join(f"{name} {figures[name]:.3f}" for name in _SCORES if name in figures)
    score = _best_score(trainer)
    if best and saver is not None and score is not None:
        when = "" if best_epoch is None else f"epoch {best_epoch}: "
        found.append(("best", f"{when}{saver.monitor} {score:.3f}  {relative(best)}"))
    found.append(("last", f"epoch {trainer.current_epoch}: {scores or 'not validated'}  {relative(last)}".rstrip()))
    if (folder / "metrics.csv").is_file():
        found.append(("metrics", relative(folder / "metrics.csv")))
    if (folder / "explanations").is_dir():
        found += [("heatmaps", relative(folder / "explanations")), ("report", _report(folder))]
    found += places(trainer.loggers).items()
    if path := best or last:
        if score is None and path != last:
            found.append(("checkpoint", relative(path)))
        command = f"--checkpoint {shlex.quote(relative(path))}"
        found += [
            ("next", f"{own_command()} benchmark {command} --output results"),
            ("", f"{own_command()} images {command} --input PHOTOS --output explained"),
        ]
    return found


def _saver(trainer: L.Trainer) -> ModelCheckpoint | None:
    return next((c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)), None)


def _best_score(trainer: L.Trainer) -> float | None:
    """Return what the best checkpoint has of the watched metric; None where there is none."""
    saver = _saver(trainer)
    return None if saver is None or saver.monitor is None or (s := saver.best_model_score) is None else float(s)


def _report(folder: Path) -> str:
    """Write the run's report and return where, or why it was not written: training has succeeded all the same."""
    try:
        return relative(write_report(folder))
    except Exception as error:  # a full disk, a broken panel: training has succeeded all the same
        return f"not written ({brief(error)}); try again: {own_command()} report {shlex.quote(relative(folder))}"


def _print_line(console: Console, what: str, said: str) -> None:
    console.print(f"{what:<12} {said}", soft_wrap=True, highlight=False, markup=False)


def _count(number: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)
