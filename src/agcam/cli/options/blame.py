"""From jsonargparse's error to one line that names the option and the place that gave it."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser as StandardParser
from argparse import _SubParsersAction
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from agcam.cli.options.nearest import near_classes, near_option, relatives_with
from agcam.cli.options.problem import Problem, read_problem
from agcam.cli.options.source import Source, find_source, unquoted
from agcam.cli.options.type_words import LISTS, base_name
from agcam.errors import InputError

_YAML_WORDS = {"True": "true", "False": "false", "None": "null"}


@dataclass(frozen=True)
class Given:
    """The options of a command, and where they were given.

    Attributes:
        args: the command line.
        files: the configurations that it names, in their order.
        parser: knows the options.
        help: the command that lists them.
        fails_alone: whether a configuration without other options fails with the same message. Called only where the
            message names no option.
    """

    args: Sequence[str]
    files: Sequence[Path]
    parser: StandardParser | None
    help: str
    fails_alone: Callable[[Path, str], bool]


def blame(error: Exception, given: Given) -> InputError:
    """Make of jsonargparse's error one that names the option, its place, what was found and what was expected."""
    message = str(error) or type(error).__name__
    problem = read_problem(message)
    source = find_source(problem.key, given.args, given.files, problem.found) if problem.key else None
    if source is None and problem.kind == "missing" and given.files:
        return InputError(f"{given.files[-1]}: {_sentence(problem, None, given)}")
    if source is None:
        guilty = _guilty(given, message)
        return InputError(f"{guilty}: {_sentence(problem, None, given)}" if guilty else _sentence(problem, None, given))
    if source.file is not None:
        return InputError(f"{source.where}: {_sentence(problem, source, given)}")
    return InputError(_sentence(problem, source, given))


def given_to_command(parser: StandardParser, args: Sequence[str], files: Sequence[Path]) -> Given:
    """Collect what was given to a command of LightningCLI, such as `agcam fit`."""
    command = next((arg for arg in args if not arg.startswith("-")), "")
    commands = next((action for action in parser._actions if isinstance(action, _SubParsersAction)), None)

    def fails_alone(file: Path, message: str) -> bool:
        try:
            parser.parse_args([command, "--config", str(file)])
        except Exception as error:  # jsonargparse raises errors of many kinds for an odd structure
            return str(error) == message
        return False

    known = commands.choices.get(command) if commands is not None else None
    return Given(
        args, files, known or parser, f"agcam {command if known else ''} --help".replace("  ", " "), fails_alone
    )


def _guilty(given: Given, message: str) -> Path | None:
    """Find the configuration that fails by itself; None if none does."""
    named = {"-c", "--config", *map(str, given.files)}
    others = [arg for arg in given.args[1:] if arg not in named and not arg.startswith("--config=")]
    if len(given.files) == 1 and not others:
        return given.files[0]
    return next((file for file in given.files if given.fails_alone(file, message)), None)


def _sentence(problem: Problem, source: Source | None, given: Given) -> str:
    """Write the sentence of the error, without the file's name."""
    in_file = source is not None and source.file is not None
    name = problem.key if in_file else f"--{problem.key}"
    of = f" (of {problem.owner.rpartition('.')[2]})" if problem.owner else ""
    if not problem.key:
        return problem.said
    owner = problem.owner.rpartition(".")[2]
    if problem.kind == "unknown":
        near = near_option(problem.key, given.parser, problem.owner, problem.owner_key)
        of_data = problem.owner_key == "data"
        others = relatives_with(problem.key.rpartition(".")[2], problem.owner) if of_data and not near else []
        but = f", but of {', '.join(others)}" if others else ""
        lists = given.help.replace("--help", f"--data.help {owner}") if of_data else given.help
        instead = _instead([near], "" if in_file else "--") if near else f"{lists} lists them"
        return f"{name}: no such option{of}{but}; {instead}"
    if problem.kind == "missing":
        return f"{name} is missing{f'; {owner} needs it' if owner else ''}"
    if problem.kind == "class":
        bases = [kind.strip("<>").removeprefix("class ").strip("'") for kind in problem.expected]
        instead = _instead(near_classes(problem.found or "", [base for base in bases if "." in base]))
        return f"{name}: no class {problem.found!r} is known here{'; ' * bool(instead)}{instead}"
    found = "" if problem.found is None else f", found {_as_written(problem)}"
    return f"{name}{of}: {problem.said}{found}{_hint(problem, source)}"


def _instead(names: Sequence[str], dashes: str = "") -> str:
    """Name the alternatives; empty if there is none."""
    if len(names) > 1:
        return f"known are {', '.join(names)}"
    return f"did you mean {dashes}{names[0]}?" if names else ""


def _as_written(problem: Problem) -> str:
    """Return the value that was found, as YAML writes it."""
    found = problem.found or ""
    if found.startswith("NestedArg("):
        found = found.partition("val=")[2].rstrip(")").strip("'")
    found = re.sub(r"\b(True|False|None)\b", lambda word: _YAML_WORDS[word[0]], " ".join(found.split()))
    return f"{found[:80]}…" if len(found) > 80 else found or "nothing"


def _hint(problem: Problem, source: Source | None) -> str:
    """Say what to write instead; empty where that is not known."""
    texts = unquoted(source.node) if source is not None else []
    if texts and any("str" in (base_name(kind), kind.partition("[")[2].rstrip("]")) for kind in problem.expected):
        quoted = [json.dumps(text, ensure_ascii=False) for text in texts]
        several = isinstance(source.node, yaml.SequenceNode) if source is not None else False
        written = f"[{', '.join(quoted[:4])}{', …' if len(quoted) > 4 else ''}]" if several else quoted[0]
        return f"; YAML does not read an unquoted yes, no, on, off, null, number or date as text; quote them: {written}"
    plain = (problem.found or "").strip()
    lists = any(base_name(kind) in LISTS for kind in problem.expected)
    if lists and plain and plain.isprintable() and len(plain) < 80 and not set(plain) & set("[]{}:,()"):
        return f"; write [{plain}]"
    return ""
