"""One process at a time writes into a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from agcam.errors import InputError
from agcam.io.atomic import cannot_write, make_folder

_LOCK = ".lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """`folder`, made if missing, for this process alone.

    Raises:
        InputError: if another process holds it.
        OutputError: if it cannot be made or written.
    """
    with hold(folder):
        try:
            yield
        finally:
            with suppress(OSError):
                (folder / _LOCK).unlink()


def hold(folder: Path) -> IO[str]:
    """As `held`, until what is returned is closed or the process ends, however it ends.

    A POSIX lock: unlike flock's it does not live on in loader workers that outlive a killed process for a moment.
    """
    make_folder(folder)
    while True:
        try:
            lock = (folder / _LOCK).open("w")
        except OSError as error:
            raise cannot_write(folder, error) from error
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(lock, folder / _LOCK):
                return lock
        except (BlockingIOError, PermissionError):
            lock.close()
            raise InputError(
                f"{folder}: another process is writing here; wait for it or choose another folder for the output"
            ) from None
        lock.close()  # its last holder has removed it meanwhile


def _is(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
