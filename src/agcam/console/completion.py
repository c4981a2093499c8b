"""Completion of the command's options in shells."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

_SHELLS = ("bash", "zsh", "tcsh")


def add_completion(
    parser: argparse.ArgumentParser,
    others: Callable[[], argparse.ArgumentParser],
    more: Mapping[str, Callable[[], argparse.ArgumentParser]],
) -> None:
    """Add the option that prints a shell's completion script.

    Args:
        parser: with some commands.
        others: makes a parser with further commands, which the script completes as well.
        more: makes the parser of each of some further commands, by its name.
    """
    parser.add_argument(
        "--print-completion",
        action=_Print,
        const=(others, more),
        choices=_SHELLS,
        dest=argparse.SUPPRESS,  # no configuration should contain it
        default=argparse.SUPPRESS,
        help=f"print a script that completes ./{parser.prog} in this shell",
    )


class _Print(argparse.Action):
    """Prints the completion script and exits."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        import shtab  # for this option only

        (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        others, more = self.const
        for action in others()._actions:
            if isinstance(action, argparse._SubParsersAction):
                commands._name_parser_map |= action.choices
                commands._choices_actions += action._choices_actions
        for name, make in more.items():
            commands._name_parser_map[name] = command = make()
            commands._choices_actions.append(commands._ChoicesPseudoAction(name, (), command.description or ""))
        for action in _actions(parser):
            if action.type is Path or getattr(action.type, "completes_files", False):
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks
        print(shtab.complete(parser, values))  # noqa: T201  # what was asked for
        parser.exit()


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
