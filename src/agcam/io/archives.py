"""Unpack a tar archive that need not be trusted: nothing leaves its folder or exceeds the stated limits."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path, PurePath
from typing import IO

from agcam.errors import DataError, brief

MAX_BYTES = 8 << 30
"""Archives that unpack to more are refused; CUB-200-2011 takes 1.2 GB, VOC 2012 2 GB."""
MAX_MEMBERS = 200_000
_BLOCK = 1 << 16
_TRUST = "fetch the archive again from a source that you trust"


def unpack(file: Path, folder: Path) -> None:
    """Unpack a tar archive, plain or gzipped, into `folder`, which must not exist. Times, owners and modes are lost.

    Links, devices and sparse files are refused, because a data set needs none; so are absolute paths, `..`, and names
    that exist already. What was unpacked before a refusal stays.

    Raises:
        DataError: naming the archive and the member.
    """
    try:
        with _opened(file) as stream, tarfile.TarFile(fileobj=_Bounded(stream)) as tar:
            folder.mkdir(parents=True)
            _unpack(tar, folder, file)
    except DataError:
        raise
    except Exception as error:  # tarfile and zlib raise whatever a broken archive makes them stumble over
        raise DataError(
            f"{file}: cannot be unpacked ({brief(error)}); remove it and run the same command again"
        ) from error


def refuse_bomb(file: Path, most: int = MAX_BYTES) -> None:
    """Raise `ValueError` if a zip archive, such as an `.npz` file, declares more than `most` bytes of content.

    Its readers read no more than it declares.
    """
    with zipfile.ZipFile(file) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > most:
        raise ValueError(f"it unpacks to {size:,} bytes, the limit is {most:,}")


def _unpack(tar: tarfile.TarFile, folder: Path, file: Path) -> None:
    count = size = 0
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all, and is not in typeshed
        target = _target(member, file, folder)
        count, size = count + 1, size + member.size
        if count > MAX_MEMBERS or size > MAX_BYTES:
            raise DataError(
                f"{file}: holds more than {MAX_MEMBERS:,} files or {MAX_BYTES:,} bytes, the limits; {_TRUST}"
            )
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            _write(tar, member, target)


def _opened(file: Path) -> IO[bytes]:
    with file.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return gzip.open(file) if zipped else file.open("rb")  # type: ignore[return-value]  # a GzipFile reads bytes, too


class _Bounded(io.RawIOBase):
    """A stream that refuses large reads: tarfile would read a name of gigabytes into memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 4 * _BLOCK:
            raise tarfile.ReadError(f"found a header of {size} bytes, the limit is {4 * _BLOCK}")
        return self._stream.read(size)


def _target(member: tarfile.TarInfo, file: Path, folder: Path) -> Path:
    """Return where a member goes. It is inside `folder`, as no link can lie there: `_unpack` writes none."""
    path = PurePath(member.name)
    if not (member.isdir() or (member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse())):
        raise DataError(f"{file}: cannot be unpacked: {member.name!r} is neither file nor folder; {_TRUST}")
    if path.anchor or ".." in path.parts or member.size < 0 or "\0" in member.name:
        raise DataError(f"{file}: cannot be unpacked: {member.name!r} would leave the folder; {_TRUST}")
    return folder / path


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None  # it is a file
    left = member.size
    with source, target.open("xb") as out:
        while left:
            block = source.read(min(left, _BLOCK))
            if not block:
                raise tarfile.ReadError(f"{member.name!r} is truncated")
            out.write(block)
            left -= len(block)
