"""What `results.json` holds, and how it is written and read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agcam.benchmark.shard import SCHEMA
from agcam.errors import DataError, brief
from agcam.io.atomic import write_whole
from agcam.io.json import from_json, to_json
from agcam.io.text import quoted
from agcam.metrics.classification.by_class import ClassFigures
from agcam.metrics.spec import MetricSpec


@dataclass(frozen=True)
class Estimate:
    """A value, the ends of its 95 % bootstrap interval over images, and the number of rows behind it."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Cost:
    """Medians over batches: milliseconds per image, and the ratio to a plain forward pass of the same batch."""

    ms_per_image: float
    forwards: float


@dataclass(frozen=True)
class ValueInfo:
    """The description of a value, so that results can be read without its metric; see `metrics.spec.Value`."""

    group: str
    label: str
    help: str
    higher_is_better: bool | None
    minor: bool


@dataclass(frozen=True)
class CurveInfo:
    """The description of a curve; see `metrics.spec.Curve`."""

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
    """A method's row of the table.

    Attributes:
        method: its label.
        control: whether its heatmaps ignore the image.
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
        rows: one for each method, in the order of the command.
        values: by name, in the order of the table.
        curves: by name.
        absent: by metric, why it was not measured.
        images: number of images.
        pairs: number of explained (image, class) pairs.
        top1_accuracy: share of images whose top-1 class is right.
        about: model, data, settings, versions, date.
        schema: version of this layout.
        classes: figures class by class; None in results of older versions.
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
    classes: ClassFigures | None = None


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


def write_json(results: Results, path: Path) -> None:
    """Write `results.json`; NaN becomes null."""
    text = json.dumps(to_json(results), indent=2, ensure_ascii=False, allow_nan=False)
    # names of files may be any bytes; the escapes are JSON's own
    write_whole(path, f"{text}\n".encode("utf-8", errors="backslashreplace"))


def read_json(path: Path) -> Results:
    """Read `results.json`.

    Raises:
        DataError: if it is missing, or is not results of this schema.
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
        raise DataError(f"{path}: no such file; expected the output folder of agcam benchmark") from None
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: not the results of agcam benchmark ({brief(error)})") from error
    return results
