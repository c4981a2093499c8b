"""The end of a run: a short table, the report, and where everything lies."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.table import Table

from agcam.callbacks.explanation import ExplanationCallback
from agcam.callbacks.non_finite import NonFiniteGuard
from agcam.console.progress import open_console
from agcam.errors import brief
from agcam.explainers.registry import is_control
from agcam.io.names import relative
from agcam.report.write import write_report
from agcam.tracking import places, run_dir

_COLUMNS = ("pixel_accuracy", "iou", "dice", "precision", "recall", "pointing_game")


class SummaryCallback(L.Callback):
    """Print the last validation's values after `fit`, write the run's report, name its files and the next command."""

    quiet = False
    """Whether to write the report and print nothing."""

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print on process 0."""
        if trainer.progress_bar_callback is not None:  # it would be drawn once more beneath the table
            trainer.progress_bar_callback.teardown(trainer, pl_module, "fit")
        if not trainer.is_global_zero:
            return
        console = open_console(self.quiet)
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        explanation = next((c for c in trainer.callbacks if isinstance(c, ExplanationCallback)), None)  # type: ignore[attr-defined]  # Lightning's list of callbacks
        if explanation is not None:
            console.print(localization_table(figures, list(explanation.scoring)))
        names = ("val/accuracy", "val/top5", "val/mAP", "val/loss")
        scores = [f"{name} {figures[name]:.3f}" for name in names if name in figures]
        if scores:
            console.print("last epoch: " + " · ".join(scores))
        finite = next((c for c in trainer.callbacks if isinstance(c, NonFiniteGuard)), None)  # type: ignore[attr-defined]  # as above
        if finite is not None and finite.skipped:
            console.print(f"{finite.skipped} training steps were skipped: their loss or gradients were not finite")
        for what, where in self._places(trainer, run_dir(trainer)).items():
            console.print(f"{what:<12} {where}", soft_wrap=True, highlight=False, markup=False)

    def _places(self, trainer: L.Trainer, folder: Path) -> dict[str, str]:
        found: dict[str, str] = {}
        if (folder / "metrics.csv").is_file():
            found["metrics"] = relative(folder / "metrics.csv")
        if (folder / "explanations").is_dir():
            found["heatmaps"] = relative(folder / "explanations")
            found["report"] = _report(folder)
        found |= places(trainer.loggers)
        checkpoint = next((c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)), None)
        path = checkpoint.best_model_path or checkpoint.last_model_path if checkpoint is not None else ""
        if path:
            found["checkpoint"] = relative(path)
            found["next"] = f"agcam images --checkpoint {relative(path)} --input PHOTOS --output explained"
        return found


def _report(folder: Path) -> str:
    """Write the run's report and return where, or why it was not written: training has succeeded all the same."""
    try:
        return relative(write_report(folder))
    except Exception as error:  # a full disk, a broken panel: training has succeeded all the same
        return f"not written ({brief(error)}); try again: agcam report {relative(folder)}"


def localization_table(figures: dict[str, float], methods: list[str]) -> Table:
    """Make a table of methods × localization values from logged metrics; the first method is `val/loc`."""
    count = int(figures.get("val/loc/count", 0))
    table = Table(title=f"Where the model looks: {count} heatmaps of the validation set")
    table.add_column("method", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name.replace("_", " "), justify="right")
    for number, method in enumerate(methods):
        prefix = "val/loc" if number == 0 else f"val/loc_{method}"
        cells = [f"{figures[f'{prefix}/{name}']:.3f}" if f"{prefix}/{name}" in figures else "–" for name in _COLUMNS]
        table.add_row(f"{method} (control)" if is_control(method) else method, *cells)
    return table
