"""Read the folder of a training run into a report."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agcam.benchmark.tables import arrow, best_beside_controls
from agcam.errors import DataError, brief
from agcam.explainers.registry import is_control
from agcam.io.epoch_folders import find_epochs, true_epoch
from agcam.io.explained_images import PANEL, ExplainedImage, read_panel
from agcam.io.json import RECORD, from_json
from agcam.io.text import name_of_file
from agcam.io.yaml import read_yaml
from agcam.metrics.classification.by_class import CLASSES, ClassFigures
from agcam.report import glossary as words
from agcam.report.benchmark import read_fill
from agcam.report.facts import About, duration, facts_of, read_run_record, settings_of
from agcam.report.gallery import thin
from agcam.report.model import Cell, Chart, Fact, Frame, Line, Link, Part, Report, Series, Table, percent

_FILES = {
    "metrics.csv": "every metric of every epoch",
    "explanations": "pictures and raw heatmaps of every epoch",
    "checkpoints": "the trained weights",
    "config.yaml": "all settings; training with them repeats the run",
}
_ORDER = ("iou", "pointing_game", "dice", "precision", "recall", "pixel_accuracy")
_MORE = ("right_for_wrong_reason", "wrong_but_looking_right", "entropy", "drift")
_MOST_NAMES = 5
_SHARES = ("accuracy", "top5", "mAP")
Curves = dict[str, tuple[list[float], list[float]]]


def run_report(folder: Path) -> Report:
    """Read a run's folder; a run that still trains is shown up to its last epoch.

    Raises:
        DataError: if a file is broken, with its name.
    """
    panels = _panels(folder / "explanations")
    read = [(number, *read_panel(path)) for number, path in thin(panels)]
    frames = [_frame(number, shown, info) for number, shown, info in read]
    settings, (curves, others) = _settings(folder / "config.yaml"), _metrics(folder / "metrics.csv")
    named = _section(settings, "explanation").get("methods")
    methods = [str(name) for name in named] if isinstance(named, list) else []
    if not methods:
        methods = list(dict.fromkeys(m for frame in frames for shown in frame.shown for m in shown.heatmaps))
    first = methods[0] if methods else "heatmaps"
    notes = []
    if len(read) < len(panels):
        notes.append(f"{len(read)} of {len(panels)} epochs, spread evenly; all of them are in explanations/.")
    files = dict(_FILES)
    if others:
        kinds = list(dict.fromkeys(name.partition("/")[0] for name in others))
        files["metrics.csv"] += f"; and what is logged by step and has no curve here: {_some(kinds)}"
    return Report(
        kind="run",
        title=f"Where the model looks: {_name(folder)}",
        facts=_facts(folder, settings, curves, frames, methods),
        frames=frames,
        empty=""
        if frames
        else "No epoch of this run has pictures yet. They are written after each validation, unless "
        "explanation.gallery is 0; runs of older versions have none.",
        table=_table(curves, methods, first),
        charts=_charts(curves, first),
        links=[Link(folder / name, what) for name, what in files.items() if (folder / name).exists()],
        fill=read_fill(read[-1][2]) if read else Report.fill,
        notes=notes,
        classes=_classes(panels[-1][1]) if panels else None,
        settings=settings_of(settings),
    )


def _classes(folder: Path) -> ClassFigures | None:
    """Read the figures class by class of the last epoch; None of a run of an older version."""
    path = folder / CLASSES
    if not path.is_file():
        return None
    try:
        found: ClassFigures = from_json(ClassFigures, json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not the figures of an epoch ({brief(error)}); delete it to do without") from error
    if not len(found.names) == len(found.images) == len(found.score) == len(found.iou):
        raise DataError(f"{path}: has not one figure for each class; delete it to do without")
    return found


def _name(folder: Path) -> str:
    folder = folder.resolve()
    return f"{folder.parent.name}, {folder.name.replace('_', ' ')}" if "version" in folder.name else folder.name


def _panels(folder: Path) -> list[tuple[int, Path]]:
    """Return number and folder of each panel: those of the validation set or, if it has none, of the test set."""
    found: dict[str, list[tuple[int, Path]]] = {"val": [], "test": []}
    for stage, number, path in find_epochs(folder):
        if (path / PANEL).is_file():
            found[stage].append((number, path))
    return found["val"] or found["test"]


def _frame(number: int, shown: Sequence[ExplainedImage], info: dict[str, Any]) -> Frame:
    """Make a frame of an epoch; a validation or test by itself has none."""
    epoch = true_epoch(number, info)
    if epoch == 0:
        return Frame("test set" if info.get("stage") == "test" else "validation set", None, shown)
    return Frame(f"epoch {epoch}", epoch, shown)


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found = read_yaml(path)
    return found if isinstance(found, dict) else {}


def _section(settings: dict[str, Any], name: str) -> dict[str, Any]:
    found = settings.get(name)
    return found if isinstance(found, dict) else {}


def _metrics(path: Path) -> tuple[Curves, list[str]]:
    """Return the mean of each column of metrics.csv by epoch, and the columns without a value in any epoch.

    Lightning counts epochs from 0 in that file; here they count from 1.

    Learning rates and device statistics are logged by step.
    """
    if not path.is_file():
        return {}, []
    sums: dict[str, dict[int, list[float]]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for name, text in row.items():
                    if text and name not in ("epoch", "step"):
                        by_epoch = sums.setdefault(name, {})
                        if row["epoch"]:
                            by_epoch.setdefault(int(float(row["epoch"])) + 1, []).append(float(text))
    except (OSError, ValueError, OverflowError, KeyError, TypeError, csv.Error) as error:
        raise DataError(f"{path}: not the metrics of a run ({type(error).__name__}: {brief(error)})") from error
    curves = {
        name: ([float(e) for e in sorted(by)], [sum(by[e]) / len(by[e]) for e in sorted(by)])
        for name, by in sums.items()
        if by
    }
    return curves, sorted(sums.keys() - curves.keys())


def _some(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMES]) + (f" and {len(names) - _MOST_NAMES} more" if names[_MOST_NAMES:] else "")


def _last(curves: Curves, name: str) -> float:
    return curves[name][1][-1] if name in curves else math.nan


def _facts(
    folder: Path, settings: dict[str, Any], curves: Curves, frames: list[Frame], methods: list[str]
) -> list[Fact]:
    model, data = _section(settings, "model"), _section(settings, "data")
    model = _section(model, "init_args") or model  # of a class of one's own
    record = read_run_record(folder / RECORD)
    epochs = max((x[-1] for name, (x, _) in curves.items() if name.startswith("train/")), default=None)
    chosen = {"batch size": _section(data, "init_args").get("batch_size"), "learning rate": model.get("lr")}
    chosen |= {"seed": settings.get("seed_everything")}
    seconds, processes = record.get("seconds"), record.get("processes")
    facts = facts_of(
        About(
            run=_name(folder),
            model=str(model.get("backbone") or ""),
            weights=_start(model) if model.get("backbone") else "",
            data=_data(data) if data.get("class_path") else "",
            methods=tuple(methods),
            settings=", ".join(f"{name} {value}" for name, value in chosen.items() if value is not None),
            date=str(record.get("date") or "")[:10],
            versions=record.get("versions") if isinstance(record.get("versions"), dict) else None,
            device=f"{processes} × {record.get('device')}"
            if isinstance(processes, int) and processes > 1
            else str(record.get("device") or ""),
            cost=f"{duration(seconds)} of training" if isinstance(seconds, int | float) else "",
        )
    )
    if epochs is not None:
        facts.append(Fact("Epochs", f"{int(epochs)}", "How often training has gone through the training images."))
    for stage, of in (("val", "validation"), ("test", "test")):
        for name in _SHARES:
            if not math.isnan(value := _last(curves, f"{stage}/{name}")):
                word = words.value(name)
                facts.append(Fact(f"{word.label}, {of}", percent(value), f"{word.help} After the last epoch."))
    if frames:
        count = len({(shown.index, shown.name) for shown in frames[-1].shown})
        facts.append(Fact("Images below", f"{count}", "The same images after every epoch, spread over the data set."))
    return facts


def _start(model: dict[str, Any]) -> str:
    """Return what training started from. Of paths the name alone: the report may be sent around."""
    if model.get("weights"):
        return f"from the weights {name_of_file(Path(Path(str(model['weights'])).name))}"
    return "from pretrained weights" if model.get("pretrained") else "trained from scratch"


def _data(data: dict[str, Any]) -> str:
    """Return the kind of the data, and the folder's name, by which data in another's format are known."""
    kind, folder = str(data["class_path"]).rpartition(".")[2], Path(str(_section(data, "init_args").get("root") or ""))
    return f"{kind}, {name_of_file(Path(folder.name))}" if folder.name else kind


def _columns(curves: Curves, first: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield stage, method and value of each localization column, with the column."""
    for column in curves:
        match = re.fullmatch(r"(val|test)/loc(?:_(.+))?/([^/]+)", column)
        if match and match[3] != "count":
            yield match[1], match[2] or first, match[3], column


def _table(curves: Curves, methods: list[str], first: str) -> Table | None:
    columns = {(stage, method, figure): column for stage, method, figure, column in _columns(curves, first)}
    shown = [m for m in methods if any(method == m for _, method, _ in columns)]
    shown += [m for m in dict.fromkeys(method for _, method, _ in columns) if m not in shown]
    shown.sort(key=is_control)
    parts = []
    for stage, title in (("val", "Validation set, after the last epoch"), ("test", "Test set")):
        figures = dict.fromkeys(figure for s, _, figure in columns if s == stage)
        known = [*_ORDER, *_MORE]
        ordered = sorted(figures, key=lambda name: known.index(name) if name in known else len(known))
        lines = []
        for figure in ordered:
            word = words.value(figure)
            values = [_last(curves, columns.get((stage, method, figure), "")) for method in shown]
            higher = word.higher_is_better
            best = best_beside_controls([(v, is_control(m)) for v, m in zip(values, shown, strict=True)], higher)
            cells = [
                Cell("–") if math.isnan(v) else Cell(f"{v:.3f}", "", v == best and not is_control(m))
                for v, m in zip(values, shown, strict=True)
            ]
            lines.append(Line(word.label, word.help, arrow(higher), cells))
        if lines:
            parts.append(Part(title, lines))
    if not parts:
        return None
    heads = [(f"{method} (control)" if is_control(method) else method, words.method(method)) for method in shown]
    notes = ["Controls ignore the image. A method that does not beat them says little about it."]
    return Table(heads, parts, notes)


def _charts(curves: Curves, first: str) -> list[Chart]:
    charts = []
    loc = list(_columns(curves, first))
    by_figure: dict[str, list[Series]] = {}
    for column, (x, y) in curves.items():
        if any(column == c for *_, c in loc) or "/loc" in column:
            continue
        stage, _, figure = column.rpartition("/")
        name = {"train": "training", "val": "validation"}.get(stage, stage) or column
        by_figure.setdefault(figure or column, []).append(Series(name, x, y))
    for figure, lines in by_figure.items():
        word = words.value(figure)
        charts.append(Chart(word.label, word.help, "epoch", lines, figure in _SHARES, epochs=True))
    for figure in (*_ORDER, *_MORE):
        lines = [
            Series(method, *curves[column], is_control(method))
            for stage, method, found, column in loc
            if found == figure and stage == "val"
        ]
        if lines:
            word = words.value(figure)
            charts.append(
                Chart(word.label, word.help, "epoch", sorted(lines, key=_faint), figure != "drift", epochs=True)
            )
    return [chart for chart in charts if any(len(line.x) > 1 for line in chart.lines)]


def _faint(line: Series) -> bool:
    return line.control
