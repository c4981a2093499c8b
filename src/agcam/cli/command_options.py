"""Options of the commands that argparse reads: what is wrong with them, in one line."""

from __future__ import annotations

import argparse
from difflib import get_close_matches
from typing import NoReturn

from agcam.errors import InputError


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are ours, without the usage, which may be as long as a page."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong.

        Raises:
            InputError: always, naming the command that lists the options.
        """
        said = message.removeprefix("argument ").replace("the following arguments are required: ", "missing: ")
        raise InputError(f"{said}; see {self.prog} --help")


def unknown_option(name: str, parser: argparse.ArgumentParser, command: str) -> InputError:
    """The error that an option, which no parser knows, is; it names the nearest one that is known."""
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    known = [option for option in commands.choices[command]._option_string_actions if option.startswith("--")]
    option = name.partition("=")[0]
    near = get_close_matches(option, known, 1, 0.7)
    hint = f"did you mean {near[0]}?" if near else f"{parser.prog} {command} --help lists them"
    return InputError(f"{option}: no such option; {hint}")
