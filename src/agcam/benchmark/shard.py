"""A shard: the rows of a fixed part of the data set in one file, the same whichever process computes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from agcam.errors import DataError, brief
from agcam.io.archives import refuse_bomb
from agcam.io.atomic import whole_file
from agcam.io.text import quoted

SCHEMA = 2
"""Version of the layout of `results.json`, `benchmark.json` and the shards."""


@dataclass
class Shard:
    """Rows of P explained pairs of I images.

    Attributes:
        images: `index` (I,) positions in the data set, `correct` (I,): whether the model's top-1 class is right.
        pairs: `index`, `target`, `correct`, `predicted`, `probability` (P,) and `name` (P,).
        rows: by method and metric, (P, K) float32; NaN in excluded rows.
        broken: by method, (P,) bool, whether its heatmap held NaN or infinity.
        seconds: by method, and "" for the plain forward pass: seconds per image, an entry for each batch.
        failed: by method, why it could not explain the model.
        shown: (S,) int64, ascending: which of the P pairs are shown, with their heatmaps.
        maps: by method, (S, h, w) float32, the heatmaps of those pairs.
        heatmaps: by method, (P, h, w), where all are kept.
    """

    images: dict[str, np.ndarray] = field(default_factory=dict)
    pairs: dict[str, np.ndarray] = field(default_factory=dict)
    rows: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    broken: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: dict[str, np.ndarray] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    shown: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    heatmaps: dict[str, Tensor] = field(default_factory=dict)


def join_shards(parts: Sequence[Shard]) -> Shard:
    """Join the rows of all parts in their order; exclude methods that failed in one part from all."""
    failed = {label: why for part in reversed(parts) for label, why in part.failed.items()}
    labels = [label for label in parts[0].broken if label not in failed]
    sizes = [len(part.pairs["index"]) for part in parts]
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return Shard(
        images=_join_arrays([part.images for part in parts]),
        pairs=_join_arrays([part.pairs for part in parts]),
        rows={label: _join_rows([part.rows[label] for part in parts], sizes) for label in labels},
        broken=_join_arrays([{label: part.broken[label] for label in labels} for part in parts]),
        seconds=_join_arrays([{label: part.seconds[label] for label in ["", *labels]} for part in parts]),
        failed=failed,
        shown=np.concatenate([part.shown + start for part, start in zip(parts, starts, strict=True)]),
        maps=_join_arrays([{label: part.maps[label] for label in labels} for part in parts]),
        heatmaps={label: torch.cat([p.heatmaps[label] for p in parts]) for label in labels if parts[0].heatmaps},
    )


def write(shard: Shard, path: Path) -> None:
    """Write a shard, all but `heatmaps`; the file appears under its name only when whole."""
    flat: dict[str, Any] = {"schema": np.array(SCHEMA), "shown": shard.shown}
    flat |= {f"images|{name}": array for name, array in shard.images.items()}
    flat |= {f"pairs|{name}": array for name, array in shard.pairs.items()}
    flat |= {f"rows|{label}|{name}": array for label, rows in shard.rows.items() for name, array in rows.items()}
    flat |= {f"maps|{label}": array for label, array in shard.maps.items()}
    flat |= {f"broken|{name}": array for name, array in shard.broken.items()}
    flat |= {f"seconds|{name}": array for name, array in shard.seconds.items()}
    flat["failed"] = np.array(json.dumps(shard.failed))
    with whole_file(path) as part, part.open("wb") as out:
        np.savez_compressed(out, **flat)


def write_heatmaps(shard: Shard, path: Path) -> None:
    """Write a shard's heatmaps as safetensors: (P, h, w) by method, with `index` and `target` (P,)."""
    rows = {name: torch.from_numpy(shard.pairs[name]) for name in ("index", "target")}
    with whole_file(path) as part:
        try:
            safetensors.torch.save_file(rows | {name: t.contiguous() for name, t in shard.heatmaps.items()}, part)
        except safetensors.SafetensorError as error:  # how it tells what the operating system says
            raise OSError(str(error)) from error


def read(path: Path) -> Shard:
    """Read what `write` wrote.

    Raises:
        DataError: if the file is not a whole shard.
    """
    found = Shard()
    try:
        refuse_bomb(path)
        with np.load(path, allow_pickle=False) as flat:
            _check_schema(flat["schema"].tolist() if "schema" in flat.files else 1)
            found.failed = json.loads(str(flat["failed"]))
            found.shown = flat["shown"]
            for key in flat.files:
                kind, _, rest = key.partition("|")
                if kind == "rows":
                    label, _, name = rest.rpartition("|")
                    found.rows.setdefault(label, {})[name] = flat[key]
                elif kind not in ("schema", "shown", "failed"):
                    getattr(found, kind)[rest] = flat[key]
        for label in found.broken:  # no row where no heatmap counts
            found.rows.setdefault(label, {})
        _check(found)
    except Exception as error:  # a damaged zip raises zlib's, tokenize's and half a dozen other errors
        raise DataError(
            f"{path}: not a whole benchmark shard ({brief(error)}); delete it and run the command again"
        ) from error
    return found


def read_all(paths: Sequence[Path]) -> Shard:
    """Read and join all shards of a benchmark.

    Raises:
        DataError: as `read`, or if a shard has other methods or metrics than the first.
    """
    parts = [read(path) for path in paths]
    widths: dict[tuple[str, str], tuple[int, ...]] = {}
    for path, part in zip(paths, parts, strict=True):
        same = {*part.broken, *part.failed} == {*parts[0].broken, *parts[0].failed}
        own = {(label, name): rows.shape[1:] for label, r in part.rows.items() for name, rows in r.items()}
        own |= {(label, ""): maps.shape[1:] for label, maps in part.maps.items()}
        if not same or any(widths.setdefault(key, width) != width for key, width in own.items()):
            raise DataError(f"{path}: other methods or metrics than in {paths[0]}; delete it and run the command again")
    return join_shards(parts)


def _check_schema(found: object) -> None:
    if found != SCHEMA:
        raise ValueError(f"it has schema {quoted(repr(found))}, this version reads {SCHEMA}")


def _check(shard: Shard) -> None:
    """Raise `ValueError` if a shard lacks what `measure` writes, or its parts differ in length."""
    labels = set(shard.broken)
    known = {"index", "target", "correct", "predicted", "probability", "name"}
    if (set(shard.images), set(shard.pairs)) != ({"index", "correct"}, known) or set(shard.maps) != labels:
        raise ValueError("it lacks a part or has an unknown one")
    if set(shard.seconds) != labels | {""}:
        raise ValueError("it lacks the time that a method took")
    if not isinstance(shard.failed, dict) or not all(isinstance(why, str) for why in shard.failed.values()):
        raise TypeError("the reason of a failure is not text")
    shard.pairs["name"].tolist()  # raises for invalid characters
    tables = [rows for label in shard.rows for rows in shard.rows[label].values()]
    flat = [*shard.images.values(), *shard.pairs.values(), *shard.broken.values(), *shard.seconds.values(), shard.shown]
    maps = list(shard.maps.values())
    if any(rows.ndim != 1 for rows in flat) or any(rows.ndim != 2 for rows in tables) or set(shard.rows) - labels:
        raise ValueError("a part has a strange shape")
    if any(rows.ndim != 3 or len(rows) != len(shard.shown) for rows in maps):
        raise ValueError("its heatmaps have a strange shape")
    count = len(shard.pairs["index"])
    if any(len(rows) != count for rows in [*shard.pairs.values(), *shard.broken.values(), *tables]):
        raise ValueError("its parts have different lengths")
    numbers = [rows for name, rows in shard.pairs.items() if name != "name"]
    rest = [*shard.broken.values(), *shard.seconds.values(), *tables, *maps]
    if any(rows.dtype.kind not in "biuf" for rows in [*shard.images.values(), *numbers, *rest]):
        raise ValueError("a part holds no numbers")
    whole = shard.shown.dtype.kind in "iu" and shard.pairs["predicted"].dtype.kind in "iu"
    if not whole or ((shard.shown < 0) | (shard.shown >= count)).any():
        raise ValueError("a shown pair is not among its rows")


def _join_arrays(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _join_rows(parts: Sequence[dict[str, np.ndarray]], sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Join as `_join_arrays`, with NaN where a part lacks a metric because, say, its images have no masks."""
    widths = {name: rows.shape[1] for part in parts for name, rows in part.items()}
    return {
        name: np.concatenate(
            [
                part.get(name, np.full((size, width), np.nan, np.float32))
                for part, size in zip(parts, sizes, strict=True)
            ]
        )
        for name, width in widths.items()
    }
