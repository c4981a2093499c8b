"""Read the text files that list a data set's images, without trusting the paths in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePath

from agcam.errors import DataError, brief

MAX_BYTES = 1 << 28
"""Larger text files are refused: a million lines of 250 bytes are more than any data set here has."""


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, with or without byte order mark; every line end becomes a newline.

    Raises:
        FileNotFoundError: if there is none; the caller knows what that means.
        DataError: if it cannot be read, is no UTF-8 or is larger than `MAX_BYTES`.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
                raise DataError(f"{path}: {size:,} bytes, the limit is {MAX_BYTES:,}; is it the right file?")
            return file.read()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({brief(error)})") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file that are not blank, each with its number; raises as `read_text`."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


def inside(name: str, where: str) -> str:
    """Return `name` if it is a relative path that stays in its folder; links on disk are followed.

    Args:
        name: what an index file names.
        where: that file and its line, for the message.

    Raises:
        DataError: if it is absolute, goes up, or is no path at all.
    """
    path = PurePath(name)
    within = path.parts and not path.anchor and ".." not in path.parts  # C:x has an anchor, too
    longest = max((len(part.encode(errors="surrogatepass")) for part in path.parts), default=0)
    if not within or "\0" in name or len(name) > 1000 or longest > 250:
        raise DataError(f"{where}: {quoted(name)} is no path to an image; expected one that stays inside the data set")
    return name


def quoted(text: str) -> str:
    """Quote `text`, cut after 80 characters."""
    return repr(text if len(text) <= 80 else f"{text[:80]}…")


def name_of_file(path: Path) -> str:
    """Turn a path into text that every file, tracker and terminal takes, also if its bytes are no UTF-8."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode()
