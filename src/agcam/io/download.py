"""Fetch a file or an official archive: resume after an interruption, verify, unpack safely."""

from __future__ import annotations

import hashlib
import http.client
import math
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from agcam.console.progress import progress
from agcam.errors import DataError
from agcam.io.archives import MAX_BYTES, unpack

_BLOCK = 1 << 20
_TIMEOUT = 60.0


@dataclass(frozen=True)
class Archive:
    """A tar archive on the web: its address, MD5 checksum, and the folder that it unpacks to."""

    url: str
    md5: str
    folder: str

    def at(self, url: str) -> Self:
        """Return the same archive at a mirror's address."""
        return replace(self, url=url)


def fetch(archive: Archive, root: Path) -> Path:
    """Download, verify and unpack `archive` into `root`; return the new folder.

    An interrupted download is kept as `NAME.part` and resumed. The folder appears only when it is complete.

    Raises:
        DataError: if the server cannot be reached, the checksum differs, or `unpack` refuses the archive.
    """
    target = root / archive.folder
    if target.is_dir():
        return target
    file = root / archive.url.rsplit("/", 1)[-1]
    fetch_file(archive.url, file, archive.md5, "md5", "name a mirror (--data.archive_url)")
    _extract(file, archive, root)
    return target


def fetch_file(url: str, file: Path, checksum: str, algorithm: str, advice: str) -> None:
    """Download and verify `file`, unless it is there with that checksum.

    An interrupted download is kept as `NAME.part` and resumed.

    Args:
        url: its address.
        file: where it is kept.
        checksum: in hexadecimal digits.
        algorithm: of the checksum, as hashlib names it.
        advice: what to do in place of trying again where that does not help.

    Raises:
        DataError: if the server cannot be reached or the checksum differs.
    """
    if file.is_file() and hash_file(file, algorithm) == checksum:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    _download(url, part, advice)
    if (found := hash_file(part, algorithm)) != checksum:
        part.unlink()
        name = algorithm.upper()
        raise DataError(f"{url}: {name} {found}, expected {checksum}; the download was removed, try again")
    part.replace(file)


def hash_file(file: Path, algorithm: str) -> str:
    """Return a file's checksum in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _download(url: str, part: Path, advice: str) -> None:
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            resumed = answer.status == 206
            length = answer.headers.get("Content-Length")
            megabytes = math.inf if length is None else int(length) / 1e6
            with (
                part.open("ab" if resumed else "wb") as out,
                progress(url.rsplit("/", 1)[-1], megabytes, "MB") as done,
            ):
                while out.tell() < MAX_BYTES and (block := answer.read(_BLOCK)):  # the checksum catches the rest
                    out.write(block)
                    done(len(block) / 1e6)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing left to fetch; the checksum is compared next
            return
        raise DataError(f"{url}: the server answered {error.code} {error.reason}; try later, or {advice}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DataError(
            f"{url}: the download broke off ({error}); run the same command again to resume it, or {advice}"
        ) from error


def _extract(file: Path, archive: Archive, root: Path) -> None:
    staging = root / f".{file.name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        unpack(file, staging)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    if not (staging / archive.folder).is_dir():
        shutil.rmtree(staging)
        raise DataError(f"{file}: holds no folder {archive.folder}; is it the right archive?")
    target = root / archive.folder
    target.parent.mkdir(parents=True, exist_ok=True)
    (staging / archive.folder).rename(target)
    for extra in staging.iterdir():  # CUB's attributes.txt lies beside its folder
        if not (root / extra.name).exists():
            extra.rename(root / extra.name)
    shutil.rmtree(staging)
