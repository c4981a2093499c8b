"""What a run came to: a short table at the end, and where everything lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console
from rich.table import Table

from agcam.callbacks.explanation import ExplanationCallback
from agcam.tracking import tracker_folders

_COLUMNS = ("pixel_accuracy", "iou", "dice", "precision", "recall", "pointing_game")
_CONTROLS = {"random", "center"}


class SummaryCallback(L.Callback):
    """Prints the last validation's figures after `fit` and says where to look next."""

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print on the first process."""
        run_dir = Path(trainer.log_dir or trainer.default_root_dir)  # asked on every process: Lightning broadcasts it
        if not trainer.is_global_zero:
            return
        console = Console()
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        explanation = next((c for c in trainer.callbacks if isinstance(c, ExplanationCallback)), None)  # type: ignore[attr-defined]  # Lightning's list of callbacks
        if explanation is not None:
            console.print(localization_table(figures, list(explanation.scoring)))
        names = ("val/accuracy", "val/top5", "val/map", "val/loss")
        scores = [f"{name} {figures[name]:.3f}" for name in names if name in figures]
        if scores:
            console.print("last epoch: " + " · ".join(scores))
        for what, where in self._places(trainer, run_dir).items():
            console.print(f"{what:<12} {where}", soft_wrap=True, highlight=False)

    def _places(self, trainer: L.Trainer, run_dir: Path) -> dict[str, Any]:
        places: dict[str, Any] = {}
        if (run_dir / "metrics.csv").is_file():
            places["metrics"] = run_dir / "metrics.csv"
        if (run_dir / "explanations").is_dir():
            places["heatmaps"] = run_dir / "explanations"
        for folder in tracker_folders(trainer.loggers):
            places["W&B run"] = f"{folder} (wandb sync {folder})"
        checkpoint = next((c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)), None)
        path = checkpoint.best_model_path or checkpoint.last_model_path if checkpoint is not None else ""
        if path:
            path = _relative(path)
            places["checkpoint"] = path
            places["next"] = f"python explain.py images --checkpoint {path} --input PHOTOS --output explained"
        return {what: _relative(where) if isinstance(where, Path) else where for what, where in places.items()}


def localization_table(figures: dict[str, float], methods: list[str]) -> Table:
    """A table of methods × localization figures from logged metrics; the first method is `val/loc`."""
    count = int(figures.get("val/loc/count", 0))
    table = Table(title=f"Where the model looks: {count} heatmaps of the validation set")
    table.add_column("method", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name.replace("_", " "), justify="right")
    for number, method in enumerate(methods):
        prefix = "val/loc" if number == 0 else f"val/loc_{method}"
        cells = [f"{figures[f'{prefix}/{name}']:.3f}" if f"{prefix}/{name}" in figures else "–" for name in _COLUMNS]
        table.add_row(f"{method} (control)" if method in _CONTROLS else method, *cells)
    return table


def _relative(path: str | Path) -> str:
    path = Path(path)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
