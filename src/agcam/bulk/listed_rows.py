"""Shards of a listing as rows of tables, in which Ray hands them on; imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from agcam.bulk.listing import ListedImage, Shard
from agcam.io.addresses import Address

_IMAGES = pa.list_(pa.struct([("name", pa.string()), ("place", pa.string())]))
_SHARD = pa.schema([("number", pa.int64()), ("key", pa.string()), ("archive", pa.string()), ("images", _IMAGES)])


def listed_rows(listing: Callable[[Counter[str]], Iterator[Shard]], batch: Any) -> Iterator[pa.Table]:
    """Yield a table of one row for each shard.

    Args:
        listing: yields the shards.
        batch: what a task of Ray is given; not looked at.
    """
    for shard in listing(Counter()):
        images = [{"name": image.name, "place": str(image.place)} for image in shard.images]
        row = {"number": shard.number, "key": shard.key, "archive": shard.archive or "", "images": images}
        yield pa.Table.from_pylist([row], schema=_SHARD)


def shards_of(table: pa.Table) -> list[Shard]:
    """Undo `listed_rows`."""
    return [
        Shard(
            row["number"],
            row["key"],
            tuple(ListedImage(image["name"], Address(image["place"])) for image in row["images"]),
            Address(row["archive"]) if row["archive"] else None,
        )
        for row in table.to_pylist()
    ]
