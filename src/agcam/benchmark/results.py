"""From shards to results: values with intervals, curves, cost, what failed and what is absent, and per-image rows."""

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

from agcam.benchmark.measure import BenchmarkConfig
from agcam.benchmark.methods import Method
from agcam.benchmark.shard import SCHEMA, Shard
from agcam.errors import DataError, brief
from agcam.io.atomic import whole_file, write_whole
from agcam.io.from_json import from_json
from agcam.io.text import quoted
from agcam.metrics.bootstrap import OfMean, bootstrap_of_means
from agcam.metrics.spec import Curve, MetricSpec, Value, column


@dataclass(frozen=True)
class Estimate:
    """A value, the ends of its bootstrap 95 % interval over images, and how many rows it is made of."""

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
class ValueInfo:
    """What is to be known of a value, so that results can be read without the metric; see `metrics.spec.Value`."""

    group: str
    label: str
    help: str
    higher_is_better: bool | None
    minor: bool


@dataclass(frozen=True)
class CurveInfo:
    """What is to be known of a curve; see `metrics.spec.Curve`."""

    metric: str
    x: list[float]
    over: str
    title: str
    x_label: str
    y_label: str
    label: str
    help: str
    higher_is_better: bool | None


@dataclass(frozen=True)
class Row:
    """A method's part of the table.

    Attributes:
        method: its label.
        control: whether its heatmaps know nothing of the image.
        failed: why it could not explain the model; empty if it could.
        broken: names of images and classes whose heatmap held NaN or infinity. They are in no value.
        values: by name.
        curves: by name, the mean curve.
        cost: of explaining.
    """

    method: str
    control: bool
    failed: str = ""
    broken: list[str] = field(default_factory=list)
    values: dict[str, Estimate] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    cost: Cost | None = None


@dataclass(frozen=True)
class Results:
    """A whole benchmark, as `results.json` holds it.

    Attributes:
        rows: one for each method, as asked for.
        values: by name, in the order of the table.
        curves: by name.
        absent: by metric, why it was not measured.
        images: number of images.
        pairs: number of explained (image, class) pairs.
        top1_accuracy: share of images whose top-1 class is right.
        about: model, data, settings, versions, date.
        schema: version of this layout.
    """

    rows: list[Row]
    values: dict[str, ValueInfo]
    curves: dict[str, CurveInfo]
    absent: dict[str, str]
    images: int
    pairs: int
    top1_accuracy: Estimate
    about: dict[str, Any]
    schema: int = SCHEMA


def describe_values(metrics: Sequence[MetricSpec]) -> dict[str, ValueInfo]:
    """Describe all values of the metrics."""
    return {
        v.name: ValueInfo(spec.group, v.label or v.short.replace("_", " "), v.help, v.higher_is_better, v.minor)
        for spec in metrics
        for v in spec.values
    }


def describe_curves(metrics: Sequence[MetricSpec]) -> dict[str, CurveInfo]:
    """Describe all curves of the metrics."""
    return {
        c.name: CurveInfo(
            metric=spec.name,
            x=list(c.x),
            over=c.over,
            title=c.title or c.short.replace("_", " "),
            x_label=c.x_label,
            y_label=c.y_label,
            label=c.label or c.title or c.short.replace("_", " "),
            help=c.help,
            higher_is_better=c.higher_is_better,
        )
        for spec in metrics
        for c in spec.curves
    }


def summarize(shard: Shard, config: BenchmarkConfig, about: dict[str, Any], seed: int = 0) -> Results:
    """Make values, intervals and curves of all rows.

    Args:
        shard: all shards, joined.
        config: what was measured.
        about: what to say of model and data; versions, machine and date are added.
        seed: of the bootstrap.
    """
    groups = torch.from_numpy(shard.pairs["index"])
    rows = [_row(shard, method, config.metrics, groups, seed) for method in config.methods]
    measured = [row for row in rows if not row.failed]
    kept = {name for row in measured for name in row.values}
    absent = {
        spec.name: _absence(spec, config.against_masks)
        for spec in config.metrics
        if measured and not any(value.name in kept for value in spec.values)
    }
    right = torch.from_numpy(shard.images["correct"]).double().unsqueeze(1)
    (accuracy,) = _estimates(right, [column(0)], torch.arange(len(right)), seed)
    return Results(
        rows=rows,
        values={name: info for name, info in describe_values(config.metrics).items() if name in kept},
        curves={
            name: info
            for name, info in describe_curves(config.metrics).items()
            if any(name in row.curves for row in measured)
        },
        absent=absent,
        images=len(shard.images["index"]),
        pairs=len(groups),
        top1_accuracy=accuracy,
        about=about | {"seed": seed, **environment()},
    )


def environment() -> dict[str, Any]:
    """Return versions, machine and date."""
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
                f"{path}: has schema {quoted(repr(schema))}, this version reads {SCHEMA}; run the benchmark again"
            )
        results: Results = from_json(Results, found)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected the output folder of explain.py benchmark") from None
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: not the results of explain.py benchmark ({brief(error)})") from error
    return results


def write_images_csv(shard: Shard, config: BenchmarkConfig, path: Path) -> None:
    """Write one line for each method and explained pair, with the values that a single image has."""
    count = len(shard.pairs["index"])
    measured = {name for rows in shard.rows.values() for name in rows}
    kept = [(spec.name, value) for spec in config.metrics if spec.name in measured for value in spec.values]
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as out:
        writer = csv.writer(out)
        known = ["index", "name", "target", "correct", "probability"]
        writer.writerow(["method", *known, "broken", *(value.name for _, value in kept)])
        for label, rows in shard.rows.items():
            values = [_each(rows.get(metric), value, count) for metric, value in kept]
            for number in range(count):
                facts = [shard.pairs[name][number] for name in known]
                cells = ["" if math.isnan(each[number]) else f"{each[number]:.7g}" for each in values]
                writer.writerow([label, *facts, bool(shard.broken[label][number]), *cells])


def values_of_pair(shard: Shard, metrics: Sequence[MetricSpec], label: str, row: int) -> dict[str, float]:
    """Return the values of one explained pair by one method, those that do not count left out."""
    known = shard.rows[label]
    values = {
        value.name: float(value.of_mean(torch.from_numpy(known[spec.name][row]).double()))
        for spec in metrics
        if spec.name in known
        for value in spec.values
    }
    return {name: value for name, value in values.items() if not math.isnan(value)}


def curves_of_pair(shard: Shard, metrics: Sequence[MetricSpec], label: str, row: int) -> dict[str, list[float]]:
    """Return the curves of one explained pair by one method that are worth a look; see `Curve.for_one_image`."""
    known = shard.rows[label]
    curves = {
        curve.name: known[spec.name][row, curve.part]
        for spec in metrics
        if spec.name in known
        for curve in spec.curves
        if curve.for_one_image
    }
    return {name: curve.tolist() for name, curve in curves.items() if not np.isnan(curve).any()}


def _absence(spec: MetricSpec, against_masks: bool) -> str:
    """Say why a metric has no value."""
    if spec.only or spec.needs == "model":
        return f"no image counts{f'; it takes {spec.only.words}' if spec.only else ''}"
    masks = spec.needs == "masks" or (spec.needs == "objects" and against_masks)
    return f"the data have no {'masks' if masks else 'boxes'}"


def _row(shard: Shard, method: Method, metrics: Sequence[MetricSpec], groups: Tensor, seed: int) -> Row:
    if method.label in shard.failed:
        return Row(method.label, method.control, failed=shard.failed[method.label])
    values: dict[str, Estimate] = {}
    curves: dict[str, list[float]] = {}
    for spec in metrics:
        rows = torch.from_numpy(shard.rows[method.label].get(spec.name, np.full((1, 1), np.nan)))
        counted = ~rows.isnan().any(1)
        if bool(counted.any()):
            of_means = [value.of_mean for value in spec.values]
            estimates = _estimates(rows[counted], of_means, groups[counted], seed)
            values |= dict(zip([value.name for value in spec.values], estimates, strict=True))
            curves |= {curve.name: _points(rows[counted], curve) for curve in spec.curves}
    broken = np.flatnonzero(shard.broken[method.label])
    names = [f"{shard.pairs['name'][n]} (class {shard.pairs['target'][n]})" for n in broken]
    seconds, plain = shard.seconds[method.label], shard.seconds[""]
    cost = Cost(1000 * float(np.median(seconds)), float(np.median(seconds / plain)))
    return Row(method.label, method.control, "", names, values, curves, cost)


def _estimates(rows: Tensor, of_means: Sequence[OfMean], groups: Tensor, seed: int) -> list[Estimate]:
    mean = rows.double().mean(0)
    ends = bootstrap_of_means(rows, of_means, groups, seed=seed)
    return [Estimate(float(f(mean)), *both, len(rows)) for f, both in zip(of_means, ends, strict=True)]


def _points(rows: Tensor, curve: Curve) -> list[float]:
    points: list[float] = rows[:, curve.part].double().mean(0).tolist()
    return points


def _each(rows: np.ndarray | None, value: Value, count: int) -> list[float]:
    if rows is None:
        return [math.nan] * count
    values: list[float] = value.of_mean(torch.from_numpy(rows).double()).tolist()
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
