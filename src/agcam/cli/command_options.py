"""One-line errors for the options of the commands that argparse reads."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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


def check_option_names(args: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Refuse an unknown option first: argparse would say what is missing because of it.

    Raises:
        InputError: for the first that a command does not have.
    """
    command = next((arg for arg in args if arg in _commands(parser)), None)
    if command is None:
        return
    known = [*parser._option_string_actions, *_commands(parser)[command]._option_string_actions]
    for arg in args:
        name = arg.partition("=")[0]
        of_data = command in ("benchmark", "audit") and name.startswith("--data")
        if len(name) > 2 and name.startswith("--") and not of_data and not any(k.startswith(name) for k in known):
            raise unknown_option(name, parser, command)


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return next(dict(a.choices) for a in parser._actions if isinstance(a, argparse._SubParsersAction))


def unknown_option(name: str, parser: argparse.ArgumentParser, command: str) -> InputError:
    """Make the error for an unknown option; it names the nearest known one."""
    known = [option for option in _commands(parser)[command]._option_string_actions if option.startswith("--")]
    option = name.partition("=")[0]
    near = get_close_matches(option, known, 1, 0.7)
    hint = f"did you mean {near[0]}?" if near else f"{parser.prog} {command} --help lists them"
    return InputError(f"{option}: no such option; {hint}")
