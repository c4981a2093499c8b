"""Files that appear under their name only when whole, and one line where they cannot be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agcam.errors import OutputError


@contextmanager
def whole_file(path: Path, part: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to; it is renamed to `path` when the block succeeds. Missing folders are made.

    If the block fails, what was written is removed and an older file of that name stays as it was.

    Args:
        path: the file.
        part: the temporary path; None takes one that no other process uses. A killed process leaves it behind.

    Raises:
        OutputError: if the disk is full, the folder is read-only, …
    """
    part = part or path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file from memory.

    Raises:
        OutputError: as `whole_file`.
    """
    with whole_file(path) as part:
        part.write_bytes(content)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, if missing.

    Raises:
        OutputError: if that cannot be done.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: Exception) -> OutputError:
    """Return the error for a path that cannot be written."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return OutputError(f"{path}: cannot be written ({' '.join(why.split())}); make room there or choose another place")
