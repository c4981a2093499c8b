"""Turn any exception into one line and an exit status: 2 if a user can fix it, 1 if nobody expected it."""

from __future__ import annotations

import sys
import traceback

from agcam.console.debug import wants_traceback
from agcam.console.foreign_errors import as_ours, root_cause
from agcam.console.raised_at import raised_at
from agcam.console.unread import SIGPIPE_STATUS, is_unread
from agcam.errors import AgcamError, UnexpectedError


def describe(error: Exception) -> tuple[str, int]:
    """Return an error's line, without `error:`, and its exit status."""
    plain = as_ours(error)
    if isinstance(plain, AgcamError):
        return _flat(str(plain)), 2
    if isinstance(plain, UnexpectedError):
        return _flat(str(plain)), 1
    root = root_cause(plain)
    kind, said, where = raised_at(root)
    return f"unexpected {kind}: {said} (at {where}); run again with --debug for the traceback", 1


def print_error(error: Exception) -> int:
    """Print an error that ended a command, as one line on stderr; return the exit status.

    Nothing is printed if the error is that nobody reads stdout any more.
    """
    if isinstance(error, BrokenPipeError) and is_unread():
        return SIGPIPE_STATUS
    line, status = describe(error)
    show_traceback(error)
    print(f"error: {line}", file=sys.stderr, flush=True)  # noqa: T201  # the command's own voice
    return status


def show_traceback(error: Exception) -> None:
    """Print the traceback if it is asked for."""
    if wants_traceback():
        traceback.print_exception(error)


def _flat(said: str) -> str:
    return " ".join(line.strip() for line in said.splitlines() if line.strip()) or "no message"
