"""List images in shards whose bounds depend on the input alone: folders, lists, tables, archives, addresses."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from agcam.errors import DataError, InputError
from agcam.io.addresses import Address, beside, file_system, opened
from agcam.io.explained_folder import holds_own_pictures
from agcam.io.image_files import OWN_PICTURE, walk_image_files
from agcam.io.images import SUFFIXES
from agcam.io.redact import without_home
from agcam.io.text import name_of_file

_ARCHIVES = (".tar", ".tgz", ".tar.gz")
_ROWS = 4096


class ListedImage(NamedTuple):
    """An image of a listing: its name in the output, and where it is read."""

    name: str
    place: Address


@dataclass(frozen=True)
class Shard:
    """The images that go into one file of the output.

    Attributes:
        number: position in the listing, from 0.
        key: a hash of what the listing says of the images.
        images: their names and places; of an archive none, because only reading it tells them.
        archive: the tar archive that holds the images; None where they are files.
    """

    number: int
    key: str
    images: Sequence[ListedImage] = ()
    archive: Address | None = None


def list_shards(
    inputs: Sequence[Address], shard_size: int, column: str, output: Path | None, left_out: Counter[str]
) -> Iterator[Shard]:
    """Yield the shards of all inputs in order, each as soon as it is listed; what is held does not grow.

    An input is a folder, an image, a list of images with one on each line (.txt), a table with a column of images
    (.parquet, .csv, .tsv), or an archive (.tar, .tgz) that becomes a shard of its own; on disk or at any address that
    fsspec knows, there also with `*` and `?`. Names in lists and tables are relative to the folder of their file.

    Args:
        inputs: what to list.
        shard_size: images in a shard, but for archives and the last one.
        column: of tables.
        output: a folder on disk that is not looked into.
        left_out: counts files in folders on disk that are no images, by kind.

    Raises:
        DataError: if an input does not exist or there is no image at all.
        InputError: if a table has no such column, or a package is missing.
    """
    number, waiting = 0, list[ListedImage]()
    for entry in _list(inputs, column, output, left_out):
        if isinstance(entry, ListedImage):
            waiting.append(entry)
            if len(waiting) < shard_size:
                continue
        if waiting:
            yield Shard(number, _key(waiting), tuple(waiting))
            number, waiting = number + 1, []
        if isinstance(entry, Address):
            yield Shard(number, _archive_key(entry), archive=entry)
            number += 1
    if waiting:
        yield Shard(number, _key(waiting), tuple(waiting))
    elif not number:
        raise DataError(f"no image in {', '.join(inputs)}; expected files ending in {', '.join(sorted(SUFFIXES))}")


def _list(
    inputs: Sequence[Address], column: str, output: Path | None, left_out: Counter[str]
) -> Iterator[ListedImage | Address]:
    for given in inputs:
        for address in _globbed(given):
            kind = address.suffix
            if address.lower().endswith(_ARCHIVES):
                yield address
            elif kind == ".txt":
                yield from map(partial(_listed, address), _lines(address))
            elif kind in (".csv", ".tsv"):
                yield from map(partial(_listed, address), _csv_column(address, column, "\t" if kind == ".tsv" else ","))
            elif kind == ".parquet":
                yield from map(partial(_listed, address), _parquet_column(address, column))
            elif address.is_remote:
                yield from _remote(address)
            else:
                yield from _on_disk(Path(address), output, left_out)


def _listed(file: Address, name: str) -> ListedImage:
    return ListedImage(name, beside(file, name))


def _globbed(address: Address) -> Iterator[Address]:
    if not address.is_remote or not set(address) & set("*?["):
        yield address
        return
    with file_system(address) as (files, pattern):
        found = sorted(files.glob(pattern))
        if not found:
            raise DataError(f"{address}: matches nothing")
        yield from (Address(files.unstrip_protocol(path)) for path in found)


def _on_disk(path: Path, output: Path | None, left_out: Counter[str]) -> Iterator[ListedImage]:
    if path.is_dir():
        for folder, files in groupby(walk_image_files(path, left_out, but=output), attrgetter("parent")):
            if holds_own_pictures(folder):
                left_out[OWN_PICTURE] += sum(1 for _ in files)
                continue
            for file in files:
                yield ListedImage(str(without_home(name_of_file(file))), Address(file))
    elif path.is_file():
        yield ListedImage(str(without_home(name_of_file(path))), Address(path))
    else:
        raise DataError(f"{path}: no such file or folder")


def _remote(address: Address) -> Iterator[ListedImage]:
    with file_system(address) as (files, path):
        if files.isfile(path):
            yield ListedImage(str(address), address)
            return
        if not files.exists(path):
            raise DataError(f"{address}: no such file or folder")
        folders = [path]
        while folders:  # fsspec's own walk leaves out folders that it cannot list, without a word
            below = []
            for entry in sorted(files.ls(folders.pop(), detail=True), key=itemgetter("name")):
                if entry["type"] == "directory":
                    below.append(entry["name"])
                elif (place := Address(files.unstrip_protocol(entry["name"]))).suffix in SUFFIXES:
                    yield ListedImage(str(place), place)
            folders += reversed(below)


def _lines(address: Address) -> Iterator[str]:
    with opened(address) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as lines:
        for line in lines:
            if name := line.strip():
                yield name


def _csv_column(address: Address, column: str, delimiter: str) -> Iterator[str]:
    with opened(address) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines, delimiter=delimiter)
        _check_column(address, column, rows.fieldnames or ())
        for row in rows:
            yield row[column] or ""


def _parquet_column(address: Address, column: str) -> Iterator[str]:
    from pyarrow import parquet  # with all that it imports, for this alone

    with opened(address) as file:
        table = parquet.ParquetFile(file)
        _check_column(address, column, table.schema_arrow.names)
        for rows in table.iter_batches(_ROWS, columns=[column]):
            yield from ("" if name is None else str(name) for name in rows.column(0).to_pylist())


def _check_column(address: Address, column: str, found: Sequence[Any]) -> None:
    if column not in found:
        raise InputError(
            f"{address}: no column {column!r}; it has {', '.join(map(str, found))}; name the one of images by --column"
        )


def _key(images: Sequence[ListedImage]) -> str:
    names = hashlib.sha256()
    for image in images:
        names.update(f"{image.name}\0{image.place}\n".encode("utf-8", "surrogateescape"))
    return names.hexdigest()


def _archive_key(archive: Address) -> str:
    with file_system(archive) as (files, path):
        return hashlib.sha256(f"{archive}\0{files.size(path)}".encode()).hexdigest()
