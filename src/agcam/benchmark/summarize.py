"""Make results from shards: values with intervals, curves, cost, what failed and what is absent."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agcam.benchmark.measure import BenchmarkConfig
from agcam.benchmark.methods import Method
from agcam.benchmark.results import Cost, Estimate, Results, Row, describe_curves, describe_values
from agcam.benchmark.shard import Shard
from agcam.metrics.bootstrap import OfMean, bootstrap_of_means
from agcam.metrics.classification.by_class import FOUND, ClassFigures, mean_by_class, single_label_figures
from agcam.metrics.spec import Curve, MetricSpec, column


def summarize(
    shard: Shard,
    config: BenchmarkConfig,
    about: dict[str, Any],
    seed: int = 0,
    class_names: Sequence[str] = (),
    multilabel: bool = False,
) -> Results:
    """Compute values, intervals and curves of all rows.

    Args:
        shard: all shards, joined.
        config: what was measured.
        about: model, data and settings; versions, machine and date are added.
        seed: of the bootstrap.
        class_names: of the model; without them there are no figures class by class.
        multilabel: whether an image may show several classes.
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
        classes=_by_class(shard, config, class_names, multilabel) if class_names else None,
    )


def _by_class(shard: Shard, config: BenchmarkConfig, names: Sequence[str], multilabel: bool) -> ClassFigures:
    """Compute the figures class by class; the overlap is that of the first method that is no control."""
    targets, count = shard.pairs["target"], len(names)
    first = next((m.label for m in config.methods if not m.control and m.label in shard.rows), "")
    overlap = np.full(len(targets), np.nan)
    if (rows := shard.rows.get(first, {}).get("localization")) is not None:
        spec = next(spec for spec in config.metrics if spec.name == "localization")
        iou = next(value for value in spec.values if value.short == "iou")
        overlap = iou.of_mean(torch.from_numpy(rows).double()).numpy()
    by_class = mean_by_class(targets, overlap, count)
    if not multilabel:
        return single_label_figures(names, targets, shard.pairs["predicted"], by_class)
    found = mean_by_class(targets, (shard.pairs["probability"] > 0.5).astype(float), count)
    return ClassFigures(list(names), np.bincount(targets, minlength=count).tolist(), FOUND, found, by_class)


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
