"""Lock a folder, so that one process at a time writes into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from agcam.errors import InputError
from agcam.io.atomic import cannot_write, make_folder

_LOCK = ".lock"


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Lock `folder`, made if missing, within the block.

    Raises:
        InputError: if another process has locked it.
        OutputError: if it cannot be made or written.
    """
    lock = lock_folder(folder)
    try:
        yield
    finally:
        if lock.lock_counter == 1:  # not within another block
            with suppress(OSError):  # before it is free: afterwards the file may be another process's lock
                (folder / _LOCK).unlink()
        lock.release()


def lock_folder(folder: Path) -> BaseFileLock:
    """Lock `folder`, made if missing, until the lock is released or collected, or the process ends in any way.

    The operating system frees the lock of a killed process, also while its loader workers live on for a moment. A
    process may lock a folder twice.

    Raises:
        InputError: if another process has locked it.
        OutputError: if it cannot be made or written.
    """
    make_folder(folder)
    try:
        lock = FileLock(folder / _LOCK, timeout=0, thread_local=False, is_singleton=True)
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{folder}: another process is writing here; wait for it or choose another folder for the output"
        ) from None
    except OSError as error:
        raise cannot_write(folder, error) from error
    return lock
