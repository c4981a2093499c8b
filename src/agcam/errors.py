"""The errors that agcam raises on purpose. Each message says what was found, what was expected, what to do."""

import errno
import re

_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO, errno.ENOTDIR}


class AgcamError(Exception):
    """Base of all errors that agcam raises on purpose; the commands print them as one line."""


class DataError(AgcamError):
    """A data set, image, annotation or archive is missing, unreadable or contradicts itself."""


class ModelError(AgcamError):
    """A model, weights file or checkpoint cannot be loaded or cannot be explained."""


class InputError(AgcamError, ValueError):
    """An argument of a call has the wrong shape, type or value."""


class OutputError(AgcamError):
    """A file or folder cannot be written."""


class TrainingError(AgcamError):
    """Training cannot go on: its numbers are not finite."""


def in_one_line(error: Exception) -> Exception:
    """An error that tells of the machine and not of our code as one of ours; any other as it is.

    That is a full disk, a killed loader worker, and what one of ours became on its way out of a loader worker.
    """
    said = str(error)
    if isinstance(error, AgcamError):
        found = re.match(r"Caught \w+ in DataLoader worker process", said)
        return type(error)(said.strip().splitlines()[-1].partition(": ")[2]) if found else error
    if isinstance(error, OSError) and error.errno in _MACHINE:
        return OutputError(f"{error.filename or 'output'}: {error.strerror}; make room there or choose another place")
    if isinstance(error, RuntimeError) and (found := re.search(r"DataLoader worker \(pid\(?s?\)? [^)]*\) [^.]*", said)):
        return DataError(f"{found[0]}; if memory ran out, take fewer: --data.num_workers")
    return error


def brief(error: Exception, most: int = 300) -> str:
    """What another library says went wrong, as part of a line: it may quote half a file."""
    said = " ".join(str(error).split())
    return f"{said[:most]}…" if len(said) > most else said or type(error).__name__
