"""The commands that argparse reads: `agcam images`, `agcam benchmark`, `agcam compare`, `audit`, `report`, `demo`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from agcam.cli.command_options import check_option_names, unknown_option
from agcam.cli.explain_options import make_parser
from agcam.console.debug import debuggable
from agcam.console.interrupt import interruptible, status_of
from agcam.console.one_line import print_error


@debuggable
def main(args: Sequence[str] | None = None) -> int:
    """Run one of these commands; return its exit status.

    0: done; 1: an image failed, or B is worse; 2: bad input; 130, 143, 129: stopped by Ctrl-C, SIGTERM, SIGHUP.
    """
    given = list(sys.argv[1:] if args is None else args)
    logging.getLogger("timm").setLevel(logging.WARNING)
    try:
        with interruptible():
            options = _parse(given)
            module, _, name = options.run.partition(":")
            return int(getattr(import_module(module), name)(options))
    except KeyboardInterrupt as interrupt:
        again = "; run the same command again to resume" if given[:1] in (["benchmark"], ["images"]) else ""
        print(f"interrupted{again}", file=sys.stderr)  # noqa: T201  # the command's own voice
        return status_of(interrupt)
    except Exception as error:
        return print_error(error)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = make_parser()
    check_option_names(args, parser)
    options, rest = parser.parse_known_args(args)
    if rest and (options.command not in ("benchmark", "audit") or not rest[0].startswith("--data")):
        raise unknown_option(rest[0], parser, options.command)
    options.data_options = rest
    return options
