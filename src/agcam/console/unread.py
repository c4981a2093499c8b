"""End a command quietly once nobody reads its output."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SIGPIPE_STATUS = 141
"""What a shell reports of a program that the signal SIGPIPE ended: 128 + 13."""


@contextmanager
def quiet_when_unread() -> Iterator[None]:
    """Exit with status 141 and no message if the reader of stdout left early, as in `agcam --help | head -1`."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # it is None if the command was started with stdout closed
                sys.stdout.flush()
    except BrokenPipeError:
        if not is_unread():
            raise
        # Python flushes once more on its way out, and would report it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(SIGPIPE_STATUS)


def is_unread() -> bool:
    """Return whether stdout is a pipe whose reader is gone: other pipes and sockets break with the same error."""
    if sys.stdout is None:
        return False
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # a stdout of Python's own, such as a notebook's, has no file
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))
