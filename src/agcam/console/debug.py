"""`--debug`: the traceback besides the one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

_OPTION, _VARIABLE = "--debug", "AGCAM_DEBUG"


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Add the option, for its line of help: `debugging` has looked for it before anything is parsed."""
    parser.add_argument(
        _OPTION,
        action=_Seen,
        nargs=0,
        dest=argparse.SUPPRESS,  # nothing that a configuration should hold
        default=argparse.SUPPRESS,
        help="where something fails, print the traceback before the one line that says what",
    )


@contextmanager
def debugging(args: Sequence[str]) -> Iterator[None]:
    """Show tracebacks inside if `args` ask for it, in the processes that are started there, too."""
    before = os.environ.get(_VARIABLE)
    if _OPTION in args:
        os.environ[_VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before


def debuggable(main: Callable[[Sequence[str] | None], int]) -> Callable[[Sequence[str] | None], int]:
    """Have a command's `main` run under `debugging`."""

    @wraps(main)
    def debugged(args: Sequence[str] | None = None) -> int:
        with debugging(sys.argv[1:] if args is None else args):
            return main(args)

    return debugged


def wants_traceback() -> bool:
    """Whether somebody asked for tracebacks, by `--debug` or by AGCAM_DEBUG=1."""
    return os.environ.get(_VARIABLE, "") not in ("", "0")


class _Seen(argparse.Action):
    """Takes the option and keeps nothing."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        """Do nothing."""
