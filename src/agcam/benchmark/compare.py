"""Compare two results: which values differ, and is the difference more than chance?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from agcam.benchmark.results import read_json
from agcam.benchmark.shard import Shard, read_all
from agcam.errors import DataError, InputError
from agcam.metrics.bootstrap import PairedDifference, paired_bootstrap_of_mean
from agcam.metrics.registry import metric_specs
from agcam.metrics.spec import Value


@dataclass(frozen=True)
class Comparison:
    """One value of A and B over the images that both have.

    Attributes:
        value: its name.
        higher_is_better: whether more is better; None where neither is.
        a: the value of A.
        b: the value of B.
        difference: B - A with its interval and p-value.
        count: how many rows both have.
    """

    value: str
    higher_is_better: bool | None
    a: float
    b: float
    difference: PairedDifference
    count: int

    def worse(self, tolerance: float) -> bool:
        """Return whether B is worse by more than `tolerance` and the interval excludes zero."""
        return self._moved(tolerance, upwards=self.higher_is_better is False)

    @property
    def better(self) -> bool:
        """Whether B is better and the interval excludes zero."""
        return self._moved(0.0, upwards=self.higher_is_better is True)

    def _moved(self, tolerance: float, upwards: bool) -> bool:
        if self.higher_is_better is None:
            return False
        d = self.difference
        return d.low > 0 and d.difference > tolerance if upwards else d.high < 0 and d.difference < -tolerance


def open_results(folder: Path) -> Shard:
    """Read all rows of a finished benchmark from its output folder.

    Raises:
        DataError: if the folder is not that of a benchmark, or the benchmark was not finished.
    """
    images = read_json(folder / "results.json").images
    paths = sorted((folder / "shards").glob("*.npz"))
    found = read_all(paths) if paths else None
    if found is None or len(found.images["index"]) != images:
        raise DataError(f"{folder}: shards/ does not hold all {images} images of results.json; run the benchmark again")
    return found


def compare(a: Shard, method_a: str, b: Shard, method_b: str, values: list[str] | None = None) -> list[Comparison]:
    """Compare values of a method in A with those of a method in B, over the images and classes that both have.

    Args:
        a: rows of A.
        method_a: a method's label there.
        b: rows of B; may be A.
        method_b: a method's label there.
        values: names, such as "abpc" or "localization/iou"; None takes all that both have.

    Raises:
        InputError: for an unknown method or value, or results without a common image.
    """
    for shard, method, where in ((a, method_a, "A"), (b, method_b, "B")):
        if method not in shard.rows:
            raise InputError(f"{where} has no method {method!r}; it has {', '.join(shard.rows)}")
    rows_a, rows_b = _common(a, b)
    if not len(rows_a):
        raise InputError("A and B have no image and class in common; compare results on the same data")
    known = {value.name: (spec.name, value) for spec in metric_specs().values() for value in spec.values}
    of_a, of_b = a.rows[method_a], b.rows[method_b]
    shared = [name for name, (metric, _) in known.items() if metric in of_a and metric in of_b]
    for name in values or ():
        if name not in shared:
            raise InputError(f"value {name!r} is not in both; both have {', '.join(shared)}")
    groups = torch.from_numpy(a.pairs["index"][rows_a])
    found = []
    for name in values or shared:
        metric, value = known[name]
        one, other = (torch.from_numpy(of[metric][rows]).double() for of, rows in ((of_a, rows_a), (of_b, rows_b)))
        counted = ~(one.isnan().any(1) | other.isnan().any(1))
        if bool(counted.any()):
            found.append(_compare_value(value, one[counted], other[counted], groups[counted]))
    return found


def _compare_value(value: Value, one: torch.Tensor, other: torch.Tensor, groups: torch.Tensor) -> Comparison:
    means = [float(value.of_mean(rows.mean(0))) for rows in (one, other)]
    difference = paired_bootstrap_of_mean(other, one, value.of_mean, groups)
    return Comparison(value.name, value.higher_is_better, means[0], means[1], difference, len(one))


def _common(a: Shard, b: Shard) -> tuple[np.ndarray, np.ndarray]:
    """Find the rows of A and of B that are the same class of the same image, by name."""
    of_b = {key: row for row, key in enumerate(zip(b.pairs["name"], b.pairs["target"], strict=True))}
    rows = [
        (row, of_b[key]) for row, key in enumerate(zip(a.pairs["name"], a.pairs["target"], strict=True)) if key in of_b
    ]
    both = np.array(rows, dtype=np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]
