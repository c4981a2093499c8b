"""One-line errors for the options of the commands that argparse reads."""

from __future__ import annotations

import argparse
from difflib import get_close_matches
from typing import NoReturn

from agcam.errors import InputError


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that raises our errors, without the usage, which may be as long as a page."""

    def error(self, message: str) -> NoReturn:
        """Raise an `InputError` that names the command that lists the options.

        Raises:
            InputError: always.
        """
        said = message.removeprefix("argument ").replace("the following arguments are required: ", "missing: ")
        raise InputError(f"{said}; see {self.prog} --help")


def unknown_option(name: str, parser: argparse.ArgumentParser, command: str) -> InputError:
    """Make the error for an unknown option; it names the nearest known one."""
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    known = [option for option in commands.choices[command]._option_string_actions if option.startswith("--")]
    option = name.partition("=")[0]
    near = get_close_matches(option, known, 1, 0.7)
    hint = f"did you mean {near[0]}?" if near else f"{parser.prog} {command} --help lists them"
    return InputError(f"{option}: no such option; {hint}")
