"""The values and curves of single explained pairs, and their table."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from agcam.benchmark.measure import BenchmarkConfig
from agcam.benchmark.shard import Shard
from agcam.io.atomic import whole_file
from agcam.metrics.spec import MetricSpec, Value


def write_images_csv(shard: Shard, config: BenchmarkConfig, path: Path) -> None:
    """Write a line for each method and explained pair, with the values of that pair."""
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
    """Return the values of one explained pair by one method, except excluded ones."""
    known = shard.rows[label]
    values = {
        value.name: float(value.of_mean(torch.from_numpy(known[spec.name][row]).double()))
        for spec in metrics
        if spec.name in known
        for value in spec.values
    }
    return {name: value for name, value in values.items() if not math.isnan(value)}


def curves_of_pair(shard: Shard, metrics: Sequence[MetricSpec], label: str, row: int) -> dict[str, list[float]]:
    """Return the curves of one explained pair by one method that the report shows; see `Curve.for_one_image`."""
    known = shard.rows[label]
    curves = {
        curve.name: known[spec.name][row, curve.part]
        for spec in metrics
        if spec.name in known
        for curve in spec.curves
        if curve.for_one_image
    }
    return {name: curve.tolist() for name, curve in curves.items() if not np.isnan(curve).any()}


def _each(rows: np.ndarray | None, value: Value, count: int) -> list[float]:
    if rows is None:
        return [math.nan] * count
    values: list[float] = value.of_mean(torch.from_numpy(rows).double()).tolist()
    return values
