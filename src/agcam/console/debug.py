"""`--debug`: print the traceback before the one line of an error."""

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
    """Add `--debug` to a parser, for its help text: `debugging` reads the option before anything is parsed."""
    parser.add_argument(
        _OPTION,
        action=_Seen,
        nargs=0,
        dest=argparse.SUPPRESS,  # no configuration should contain it
        default=argparse.SUPPRESS,
        help="if the command fails, print the traceback before the error message",
    )


@contextmanager
def debugging(args: Sequence[str]) -> Iterator[None]:
    """Show tracebacks within the block if `args` ask for it, also in processes that are started there."""
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
    """Wrap a command's `main` in `debugging`."""

    @wraps(main)
    def debugged(args: Sequence[str] | None = None) -> int:
        with debugging(sys.argv[1:] if args is None else args):
            return main(args)

    return debugged


def wants_traceback() -> bool:
    """Return whether tracebacks are asked for, by `--debug` or by AGCAM_DEBUG=1."""
    return os.environ.get(_VARIABLE, "") not in ("", "0")


class _Seen(argparse.Action):
    """Accepts the option and stores nothing."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        """Do nothing."""
