"""One process at a time writes into a folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from agcam.errors import InputError
from agcam.whole_file import cannot_write, make_folder


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """`folder`, made if missing, for this process alone.

    Raises:
        InputError: if another process holds it.
        OutputError: if it cannot be made or written.
    """
    with hold(folder):
        yield


def hold(folder: Path) -> IO[str]:
    """As `held`, until what is returned is closed or the process ends, however it ends.

    A POSIX lock: unlike flock's it does not live on in loader workers that outlive a killed process for a moment.
    """
    make_folder(folder)
    try:
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        lock.close()
        raise InputError(
            f"{folder}: another process is writing here; wait for it or choose another folder for the output"
        ) from None
    return lock
