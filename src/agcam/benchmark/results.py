"""From shards to results: figures with intervals, curves, cost, what failed and what is absent, and per-image rows."""

from __future__ import annotations

import csv
import datetime
import importlib.metadata
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agcam.benchmark.methods import Method
from agcam.benchmark.scores import Curve, Figure, Score
from agcam.benchmark.shard import Plan, Shard
from agcam.errors import DataError, brief
from agcam.io.atomic import whole_file, write_whole
from agcam.io.from_json import typed
from agcam.io.text import shown
from agcam.metrics.bootstrap import bootstrap_of_mean

SCHEMA = 1


@dataclass(frozen=True)
class Value:
    """A figure: its value, the ends of its bootstrap 95 % interval over images, and how many rows it is made of."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Cost:
    """Medians over batches: milliseconds an image, and the ratio to a plain forward of the same batch."""

    ms_per_image: float
    forwards: float


@dataclass(frozen=True)
class Row:
    """A method's part of the table.

    Attributes:
        method: its label.
        control: whether its heatmaps know nothing of the image.
        failed: why it could not explain the model; empty if it could.
        broken: names of images and classes whose heatmap held NaN or infinity. They are in no figure.
        figures: by name.
        curves: by name, the mean curve.
        cost: of explaining.
    """

    method: str
    control: bool
    failed: str = ""
    broken: list[str] = field(default_factory=list)
    figures: dict[str, Value] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    cost: Cost | None = None


@dataclass(frozen=True)
class Results:
    """A whole benchmark, as `results.json` holds it.

    Attributes:
        rows: one for each method, as asked for.
        higher: by figure, in the order of the table: whether more is better.
        axes: by curve, its x values.
        absent: by metric, why it was not measured.
        images: number of images.
        pairs: number of explained (image, class) pairs.
        accuracy: share of images whose first choice is right.
        about: model, data, settings, versions, date.
        schema: version of this layout.
    """

    rows: list[Row]
    higher: dict[str, bool | None]
    axes: dict[str, list[float]]
    absent: dict[str, str]
    images: int
    pairs: int
    accuracy: Value
    about: dict[str, Any]
    schema: int = SCHEMA


def summarise(shard: Shard, plan: Plan, about: dict[str, Any], seed: int = 0) -> Results:
    """Figures, intervals and curves of all rows.

    Args:
        shard: all shards, joined.
        plan: what was measured.
        about: what to say of model and data; versions, machine and date are added.
        seed: of the bootstrap.
    """
    groups = torch.from_numpy(shard.pairs["index"])
    rows = [_row(shard, method, plan.scores, groups, seed) for method in plan.methods]
    measured = [row for row in rows if not row.failed]
    kept = {figure.name for row in measured for figure in _figures(plan.scores) if figure.name in row.figures}
    absent = {
        score.name: _absence(score, plan.against_masks)
        for score in plan.scores
        if measured and not any(figure.name in kept for figure in score.figures)
    }
    shown = [curve for score in plan.scores for curve in score.curves]
    right = torch.from_numpy(shard.images["correct"]).double().unsqueeze(1)
    return Results(
        rows=rows,
        higher={figure.name: figure.higher for figure in _figures(plan.scores) if figure.name in kept},
        axes={c.name: list(c.x) for c in shown if any(c.name in row.curves for row in measured)},
        absent=absent,
        images=len(shard.images["index"]),
        pairs=len(groups),
        accuracy=_value(right, _first, torch.arange(len(right)), seed),
        about=about | {"seed": seed, **environment()},
    )


def environment() -> dict[str, Any]:
    """Versions, machine and date."""
    versions = {
        name: importlib.metadata.version(name) for name in ("agcam", "torch", "timm", "lightning", "torchmetrics")
    }
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    return {
        "versions": versions | {"python": platform.python_version()},
        "device": device,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def write_json(results: Results, path: Path) -> None:
    """Write `results.json`; NaN becomes null."""
    text = json.dumps(_plain(asdict(results)), indent=2, ensure_ascii=False, allow_nan=False)
    # names of files may be any bytes; the escapes are JSON's own
    write_whole(path, f"{text}\n".encode("utf-8", errors="backslashreplace"))


def read_json(path: Path) -> Results:
    """Read `results.json`.

    Raises:
        DataError: if it is missing or no results of this schema.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        schema = found.get("schema") if isinstance(found, dict) else None
        if schema != SCHEMA:
            raise DataError(
                f"{path}: has schema {shown(repr(schema))}, this version reads {SCHEMA}; run the benchmark again"
            )
        results: Results = typed(Results, found)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected the output folder of explain.py benchmark") from None
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: not the results of explain.py benchmark ({brief(error)})") from error
    return results


def write_images_csv(shard: Shard, plan: Plan, path: Path) -> None:
    """One line for each method and explained pair, with the figures that make sense for a single image."""
    named = [(f.name, f) for f in _figures(plan.scores)]
    kept = [(n, f) for n, f in named if any(f.column in columns for columns in shard.columns.values())]
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as out:
        writer = csv.writer(out)
        known = ["index", "name", "target", "correct", "probability"]
        writer.writerow(["method", *known, "broken", *(name for name, _ in kept)])
        for label, columns in shard.columns.items():
            figures = [_each(columns.get(figure.column), figure, len(shard.pairs["index"])) for _, figure in kept]
            for number in range(len(shard.pairs["index"])):
                facts = [shard.pairs[name][number] for name in known]
                cells = ["" if math.isnan(values[number]) else f"{values[number]:.7g}" for values in figures]
                writer.writerow([label, *facts, bool(shard.broken[label][number]), *cells])


def _absence(score: Score, against_masks: bool) -> str:
    """Why a metric has no figure."""
    if score.only or score.needs == "model":
        return f"no image counts{f'; it takes {score.only}' if score.only else ''}"
    masks = score.needs == "masks" or (score.needs == "objects" and against_masks)
    return f"the data have no {'masks' if masks else 'boxes'}"


def _figures(scores: Sequence[Score]) -> list[Figure]:
    return [figure for score in scores for figure in score.figures]


def _row(shard: Shard, method: Method, scores: Sequence[Score], groups: Tensor, seed: int) -> Row:
    if method.label in shard.failed:
        return Row(method.label, method.control, failed=shard.failed[method.label])
    columns = {name: torch.from_numpy(rows) for name, rows in shard.columns[method.label].items()}
    broken = np.flatnonzero(shard.broken[method.label])
    figures = {}
    for figure in _figures(scores):
        rows = columns.get(figure.column)
        if rows is not None and bool((counted := ~rows.isnan().any(1)).any()):
            figures[figure.name] = _value(rows[counted], figure.of_mean, groups[counted], seed)
    curves = {}
    for curve in (c for score in scores for c in score.curves if c.column in columns):
        if points := _curve(columns[curve.column], curve):
            curves[curve.name] = points
    seconds, plain = shard.seconds[method.label], shard.seconds[""]
    cost = Cost(1000 * float(np.median(seconds)), float(np.median(seconds / plain)))
    names = [f"{shard.pairs['name'][n]} (class {shard.pairs['target'][n]})" for n in broken]
    return Row(method.label, method.control, "", names, figures, curves, cost)


def _value(rows: Tensor, of_mean: Any, groups: Tensor, seed: int) -> Value:
    value = float(of_mean(rows.double().mean(0)))
    return Value(value, *bootstrap_of_mean(rows, of_mean, groups, seed=seed), len(rows))


def _curve(rows: Tensor, curve: Curve) -> list[float]:
    counted = rows[~rows.isnan().any(1)]
    points: list[float] = counted[:, curve.part].double().mean(0).tolist() if len(counted) else []
    return points


def _each(rows: np.ndarray | None, figure: Figure, count: int) -> list[float]:
    if rows is None:
        return [math.nan] * count
    values: list[float] = figure.of_mean(torch.from_numpy(rows).double()).tolist()
    return values


def _first(rows: Tensor) -> Tensor:
    return rows[..., 0]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
