"""A first look at the option names of the training commands; nothing here imports torch.

The full parser knows every option, since it is made of the classes themselves, which take seconds to import. Here
their source is read instead.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from agcam.cli.named_class import named_classes
from agcam.cli.train_help import GROUPS, OTHER_OPTIONS
from agcam.errors import InputError

_PACKAGE = Path(__file__).parents[1]


def check_option_names(given: Sequence[str]) -> None:
    """Refuse a mistyped option before anything large is imported.

    Options of strangers' classes are known to the full parser alone.

    Raises:
        InputError: for an unknown option, with the nearest known one.
    """
    known = {option.removesuffix("+") for options in GROUPS.values() for option in options} | set(OTHER_OPTIONS)
    closed = _closed(given)
    for argument in given:
        if argument == "--":
            return
        option = re.split(r"[=+]", argument.removeprefix("--"), maxsplit=1)[0]
        if not argument.startswith("--") or not option or option in known or option.endswith(".help"):
            continue
        first, _, rest = option.partition(".")
        if first in closed and rest.partition(".")[0] in {"class_path", "init_args", "dict_kwargs", *closed[first]}:
            continue
        if first in closed or first not in ("trainer", "data", "model"):
            every = [*known, *(f"{part}.{name}" for part, names in closed.items() for name in names)]
            near = _near(option, sorted(every))
            hint = f"did you mean --{near}?" if near else "agcam fit --help lists them"
            raise InputError(f"--{option}: no such option; {hint}")


def _closed(given: Sequence[str]) -> dict[str, set[str]]:
    """Return the parts of the command line whose options are known here, with their names."""
    found = {"explanation": _arguments([_PACKAGE / "callbacks" / "explanation.py"])}
    if not named_classes(given, "model"):
        found["model"] = _arguments([_PACKAGE / "training" / "classifier.py"])
    files = sorted((_PACKAGE / "data").glob("*.py"))
    own = {node.name for file in files for node in ast.walk(_parsed(file)) if isinstance(node, ast.ClassDef)}
    chosen = named_classes(given, "data")
    if chosen and all(name in own or name.startswith("agcam.data.") for name in chosen):
        found["data"] = _arguments(files)
    lightning = find_spec("lightning")
    if lightning is not None and lightning.origin is not None:
        found["trainer"] = _arguments([Path(lightning.origin).parent / "pytorch" / "trainer" / "trainer.py"])
    return found


def _arguments(files: Iterable[Path]) -> set[str]:
    """Return the names of all arguments with which the classes in some files are made."""
    made = [
        node.args
        for file in files
        for node in ast.walk(_parsed(file))
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    return {argument.arg for args in made for argument in (*args.args, *args.kwonlyargs)} - {"self"}


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _near(option: str, known: Sequence[str]) -> str:
    same_end = [name for name in known if "." in name and name.rpartition(".")[2] == option.rpartition(".")[2]]
    return next(iter(get_close_matches(option, known, 1, 0.8) or same_end), "")
