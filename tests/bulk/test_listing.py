"""Shards of a listing: the same from every kind of input, in an order that names alone decide, in flat memory."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from agcam.bulk.listed_rows import listed_rows, shards_of
from agcam.bulk.listing import Shard, list_shards
from agcam.errors import DataError, InputError
from agcam.io.addresses import Address

NAMES = ["a/1.jpg", "a/2.jpg", "a/b/3.png", "c/4.jpg", "c/5.jpg"]


def shards(*inputs: object, size: int = 2, column: str = "path", output: Path | None = None) -> list[Shard]:
    return list(list_shards([Address(i) for i in inputs], size, column, output, Counter()))


def places(found: list[Shard]) -> list[str]:
    return [image.place for shard in found for image in shard.images]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in reversed(NAMES):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    (tmp_path / "photos" / "notes.txt").touch()
    return tmp_path / "photos"


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    files = fsspec.filesystem("memory")
    for name in reversed(NAMES):
        files.pipe_file(f"/photos/{name}", b"x")
    files.pipe_file("/photos/notes.txt", b"x")
    yield files
    files.rm("/photos", recursive=True)


def test_a_folder_is_cut_into_shards_in_the_order_of_names(photos: Path) -> None:
    found = shards(photos)
    assert places(found) == [str(photos / name) for name in ("a/1.jpg", "a/2.jpg", "c/4.jpg", "c/5.jpg", "a/b/3.png")]
    assert [(shard.number, len(shard.images)) for shard in found] == [(0, 2), (1, 2), (2, 1)]
    assert shards(photos) == found
    assert len({shard.key for shard in found}) == 3


def test_lists_and_tables_name_images_relative_to_themselves(photos: Path) -> None:
    (photos / "list.txt").write_text("\n".join(["", *NAMES[:4], f"{photos / NAMES[4]}", ""]))
    (photos / "table.csv").write_text("id,path\n" + "".join(f'{n},"{name}"\n' for n, name in enumerate(NAMES)))
    (photos / "table.tsv").write_text("id\tpath\n" + "".join(f"{n}\t{name}\n" for n, name in enumerate(NAMES)))
    parquet.write_table(pa.table({"id": range(5), "image": NAMES}), photos / "table.parquet")
    expected = [str(photos / name) for name in NAMES]
    for name, column in (
        ("list.txt", "path"),
        ("table.csv", "path"),
        ("table.tsv", "path"),
        ("table.parquet", "image"),
    ):
        found = shards(photos / name, column=column)
        assert places(found) == expected
        assert [image.name for image in found[0].images] == NAMES[:2]
    with pytest.raises(InputError, match=r"table.parquet: no column 'path'; it has id, image; name the one .*--column"):
        shards(photos / "table.parquet")


@pytest.mark.usefixtures("memory")
def test_addresses_are_walked_matched_and_listed() -> None:
    walked = ["a/1.jpg", "a/2.jpg", "a/b/3.png", "c/4.jpg", "c/5.jpg"]
    assert places(shards("memory://photos")) == [f"memory:///photos/{name}" for name in walked]
    assert places(shards("memory://photos/c/*.jpg")) == ["memory:///photos/c/4.jpg", "memory:///photos/c/5.jpg"]
    assert places(shards("memory://photos/a/1.jpg")) == ["memory://photos/a/1.jpg"]
    fsspec.filesystem("memory").pipe_file("/photos/list.txt", "\n".join(NAMES).encode())
    assert places(shards("memory://photos/list.txt")) == [f"memory://photos/{name}" for name in NAMES]
    with pytest.raises(DataError, match="memory://nowhere: no such file or folder"):
        shards("memory://nowhere")
    with pytest.raises(DataError, match="matches nothing"):
        shards("memory://photos/*.gif")
    with pytest.raises(InputError, match="fsspec knows no unheard://"):
        shards("unheard://x")


def test_files_are_read_by_address_as_by_path(photos: Path) -> None:
    assert places(shards(f"file://{photos}/c")) == [f"file://{photos}/c/4.jpg", f"file://{photos}/c/5.jpg"]


def test_an_archive_is_a_shard_of_its_own(photos: Path) -> None:
    (photos / "1.tar").write_bytes(b"x")
    (photos / "2.tar").write_bytes(b"xy")
    found = shards(photos / "a" / "1.jpg", photos / "1.tar", photos / "2.tar", photos / "c")
    assert [shard.archive and Path(shard.archive).name for shard in found] == [None, "1.tar", "2.tar", None]
    assert [len(shard.images) for shard in found] == [1, 0, 0, 2]
    before = found[1].key
    (photos / "1.tar").write_bytes(b"xyz")
    assert shards(photos / "1.tar")[0].key != before


def test_the_output_is_not_looked_into(photos: Path) -> None:
    assert places(shards(photos, output=photos / "a")) == [str(photos / "c" / "4.jpg"), str(photos / "c" / "5.jpg")]


@pytest.mark.parametrize("empty", ["empty", "notes"])
def test_nothing_to_explain_is_said(empty: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.doc").touch()
    with pytest.raises(DataError, match=f"no image in .*{empty}; expected files ending in"):
        shards(tmp_path / empty)


def peak_of_listing(source: Path) -> int:
    """Return the least peak of three listings: the interpreter's table of names is made larger in one of many."""
    peaks = []
    for _ in range(3):
        tracemalloc.start()
        try:
            count = sum(len(shard.images) for shard in list_shards([Address(source)], 100, "path", None, Counter()))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert count >= 6000
    return min(peaks)


def test_listing_holds_a_shard_and_a_folder_at_a_time(tmp_path: Path) -> None:
    for number in range(60):
        folder = tmp_path / "photos" / f"{number:03}"
        folder.mkdir(parents=True)
        for image in range(100):
            (folder / f"{image:03}.jpg").touch()
    (tmp_path / "list.txt").write_text("".join(f"photos/{n % 60:03}/{n % 100:03}.jpg\n" for n in range(50_000)))
    assert peak_of_listing(tmp_path / "list.txt") < 1_000_000  # 50,000 names at once are ten
    assert peak_of_listing(tmp_path / "photos") < 1_000_000


def test_shards_come_back_from_the_rows_that_ray_hands_on(photos: Path) -> None:
    (photos / "1.tar").write_bytes(b"x")
    found = shards(photos / "a", photos / "1.tar")
    assert [shards_of(table) for table in listed_rows(lambda left_out: iter(found), None)] == [[s] for s in found]
