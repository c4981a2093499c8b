"""One Parquet file of explained images: a row an image, maps as float16 with their shape in the schema's metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from agcam.errors import DataError, InputError, brief
from agcam.explainers.explanation import Explanation
from agcam.io.atomic import whole_file

METADATA = b"agcam"
_MOST_VALUES = 2**31 - 1  # their offsets are int32
SCHEMA = 1
_FIELDS = [
    pa.field("name", pa.string(), nullable=False),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("classes", pa.list_(pa.int32())),
    pa.field("probabilities", pa.list_(pa.float32())),
    pa.field("maps", pa.list_(pa.float16())),
    pa.field("error", pa.string()),
]


@dataclass(frozen=True)
class Footer:
    """What a shard's file says of itself.

    Attributes:
        number: of the shard.
        key: of the shard's images, as the listing gave it.
        shape: (K, h, w) of the maps of an image; empty where no image could be read.
        image_size: (H, W) that the model sees.
        extent: height and width in pixels that a map covers, from the upper left one.
        rows: images, those that failed as well.
        errors: images that failed.
        about: what made the file.
        schema: version of this format.
    """

    number: int
    key: str
    shape: list[int]
    image_size: list[int]
    extent: list[int]
    rows: int
    errors: int
    about: dict[str, Any]
    schema: int = SCHEMA


@dataclass(eq=False)
class ShardRows:
    """The rows of a shard while they are collected, in the order of the listing."""

    names: list[str] = field(default_factory=list)
    errors: list[str | None] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    classes: list[np.ndarray] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    maps: list[np.ndarray] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    image_size: tuple[int, ...] = ()
    extent: tuple[int, ...] = ()

    def add(self, names: Sequence[str], errors: Sequence[str | None]) -> None:
        """Add images in their order, with the error of each that failed."""
        self.names += names
        self.errors += errors

    def add_explained(self, sizes: Sequence[tuple[int, int]], explanation: Explanation, shares: np.ndarray) -> None:
        """Add what was found of those that did not fail.

        Args:
            sizes: width and height of each upright image in pixels.
            explanation: of them.
            shares: (B, K) float32 probabilities of the explained classes.

        Raises:
            InputError: if float16 cannot hold a map.
        """
        self.sizes += sizes
        self.classes.append(explanation.targets.cpu().numpy().astype(np.int32))
        self.probabilities.append(shares)
        self.maps.append(_halved(explanation))
        self.shape = tuple(explanation.heatmaps.shape[1:])
        self.image_size = explanation.image_size or ()
        self.extent = explanation.extent or self.image_size


def to_table(rows: ShardRows) -> pa.Table:
    """Turn rows into the columns name, width, height, classes, probabilities, maps and error.

    Raises:
        InputError: if one file cannot hold as many values.
    """
    well = np.array([error is None for error in rows.errors], bool)
    sizes = np.zeros((len(well), 2), np.int32)
    sizes[well] = np.array(rows.sizes, np.int32).reshape(-1, 2)
    columns = [
        pa.array(rows.names, pa.string()),
        pa.array(sizes[:, 0], mask=~well),
        pa.array(sizes[:, 1], mask=~well),
        _lists(rows.classes, well, _FIELDS[3].type),
        _lists(rows.probabilities, well, _FIELDS[4].type),
        _lists(rows.maps, well, _FIELDS[5].type),
        pa.array(rows.errors, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(_FIELDS))


def write_shard(path: Path, rows: ShardRows, number: int, key: str, about: dict[str, Any]) -> Footer:
    """Write a shard's file; it appears under its name only when whole.

    Args:
        path: the file.
        rows: its rows.
        number: of the shard.
        key: of the shard's images.
        about: what made it.

    Raises:
        InputError: if one file cannot hold as many values.
        OutputError: if it cannot be written.
    """
    failed = sum(error is not None for error in rows.errors)
    shape, seen, extent = [*rows.shape], [*rows.image_size], [*rows.extent]
    footer = Footer(number, key, shape, seen, extent, len(rows.names), failed, about)
    table = to_table(rows).replace_schema_metadata({METADATA: json.dumps(asdict(footer))})
    with whole_file(path) as part:
        parquet.write_table(table, part, compression="zstd", use_dictionary=["error"])
    return footer


def read_footer(path: Path) -> Footer:
    """Read what a shard's file says of itself, without its rows.

    Raises:
        DataError: if it is broken or something else.
    """
    try:
        footer = Footer(**json.loads(parquet.read_metadata(path).metadata[METADATA]))
    except Exception as error:  # pyarrow raises whatever a broken file makes it stumble over
        raise DataError(
            f"{path}: not a file that agcam images wrote ({brief(error)}); remove it and run the same command again"
        ) from error
    if footer.schema != SCHEMA:
        raise DataError(f"{path}: written by another version of agcam; choose another folder for the output")
    return footer


def _halved(explanation: Explanation) -> np.ndarray:
    maps = explanation.heatmaps.cpu().numpy()
    highest = float(np.abs(maps).max())
    if not highest <= np.finfo(np.float16).max:  # NaN, too
        raise InputError(
            f"--method {explanation.method}: a heatmap reaches {highest:g}, which float16 cannot hold; choose another "
            "method, or explain with --format files"
        )
    return maps.astype(np.float16)


def _lists(found: Sequence[np.ndarray], well: np.ndarray, kind: pa.ListType) -> pa.ListArray:
    """Lay arrays (B, …) end to end as lists, one for each row that is well, and null for the others."""
    if (count := sum(rows.size for rows in found)) > _MOST_VALUES:
        raise InputError(
            f"{count:,} values in one file, Parquet's lists hold {_MOST_VALUES:,}; choose a smaller --shard-size, "
            "fewer classes, or smaller archives"
        )
    values = np.concatenate([rows.reshape(len(rows), -1) for rows in found]) if found else np.zeros((0, 0))
    offsets = np.concatenate([[0], np.cumsum(well * values.shape[1])]).astype(np.int32)
    flat = pa.array(values.reshape(-1), kind.value_type)
    return pa.ListArray.from_arrays(pa.array(offsets), flat, type=kind, mask=pa.array(~well))
