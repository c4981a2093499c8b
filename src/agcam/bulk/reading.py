"""Read the images of a shard: files in threads, the members of an archive one after the other."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agcam.bulk.listing import Shard
from agcam.data.photographs import Photograph, PhotographMaker
from agcam.errors import DataError
from agcam.io.addresses import Address, opened, read_bytes
from agcam.io.images import SUFFIXES, read_image

_LARGEST = 1 << 30
"""Larger members of archives are refused; an image of `MAX_PIXELS` in 16 bits takes 600 MB."""


@dataclass(frozen=True, eq=False)
class Unread:
    """An image that is listed.

    Attributes:
        name: in the output.
        place: where it lies.
        shard: number of its shard.
        content: its bytes, where they have been read; None for a file.
        error: why it cannot be read, where that is known.
    """

    name: str
    place: Address
    shard: int
    content: bytes | None = None
    error: str = ""


@dataclass(frozen=True, eq=False)
class ReadImage:
    """An image that was read, or why it could not be.

    Attributes:
        name: in the output.
        shard: number of its shard.
        photograph: as the model takes it; None if it cannot be read.
        error: why, in one line.
    """

    name: str
    shard: int
    photograph: Photograph | None = None
    error: str = ""


def batches_of(shard: Shard, batch_size: int) -> Iterator[list[Unread]]:
    """Yield the images of a shard in batches, those of an archive with their bytes."""
    batch: list[Unread] = []
    for image in _members(shard.archive, shard.number) if shard.archive is not None else _files(shard):
        batch.append(image)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


class ImageReader:
    """Reads images for a model; threads may share one.

    Args:
        make: turns decoded images into what the model takes.
    """

    def __init__(self, make: PhotographMaker) -> None:
        self.make = make

    def __call__(self, image: Unread) -> ReadImage:
        """Read an image; whatever is wrong with it becomes its error."""
        if image.error:
            return ReadImage(image.name, image.shard, error=image.error)
        try:
            content = image.content
            if content is None and image.place.is_remote:
                content = read_bytes(image.place)
            pixels = read_image(image.place, content)
        except DataError as error:
            return ReadImage(image.name, image.shard, error=str(error))
        return ReadImage(image.name, image.shard, self.make(Path(image.name), pixels))


def _files(shard: Shard) -> Iterator[Unread]:
    for image in shard.images:
        yield Unread(image.name, image.place, shard.number)


def _members(archive: Address, shard: int) -> Iterator[Unread]:
    """Yield the images in an archive; where it is damaged, an error in the archive's own name ends them."""
    try:
        with opened(archive) as file, tarfile.open(fileobj=file, mode="r|*") as tar:
            for member in tar:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all, and is not in typeshed
                place = Address(f"{archive}/{member.name}")
                if not member.isfile() or place.suffix not in SUFFIXES:
                    continue
                if member.size > _LARGEST:
                    yield Unread(
                        place, place, shard, error=f"{place}: {member.size:,} bytes, the limit is {_LARGEST:,}"
                    )
                    continue
                content = tar.extractfile(member)
                assert content is not None  # it is a file
                yield Unread(str(place), place, shard, content.read())
    except DataError as error:
        yield Unread(str(archive), archive, shard, error=f"{error}; what follows in the archive is missing")
