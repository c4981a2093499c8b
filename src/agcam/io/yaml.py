"""Read a YAML file as plain data, without trusting it."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from agcam.errors import DataError, brief
from agcam.io.text import read_text

MAX_CHARACTERS = 1 << 17
"""Longer configurations are refused; those here have a hundredth of that."""
MAX_NODES = 50_000
"""How many values a configuration may have with all its `*aliases` written out."""


def read_yaml(path: Path) -> Any:
    """Read a YAML file: dictionaries, lists and plain values, never objects.

    Raises:
        DataError: if it is missing, too large, not UTF-8 or not YAML; the message names the line.
    """
    try:
        text = read_text(path)
        if len(text) > MAX_CHARACTERS:
            raise DataError(f"{path}: longer than {MAX_CHARACTERS:,} characters, the limit; expected a configuration")
        if _count(yaml.compose(text, yaml.SafeLoader), {}) > MAX_NODES:
            raise DataError(
                f"{path}: its aliases (*) stand for more than {MAX_NODES:,} values, or for themselves; write out what "
                "they stand for"
            )
        return yaml.safe_load(text)
    except FileNotFoundError:
        near = get_close_matches(path.name, [file.name for file in path.parent.glob("*.y*ml")], n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "expected a configuration, check the path"
        raise DataError(f"{path}: no such file; {hint}") from None
    except (ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:  # dates, keys, merges
        mark = getattr(error, "problem_mark", None)
        where = path if mark is None else f"{path}:{mark.line + 1}"
        raise DataError(f"{where}: cannot be read as YAML ({brief(error)}); correct it there") from error


def _count(node: yaml.Node | None, known: dict[int, float]) -> float:
    """Count the values in `node` with aliases written out; infinite if it contains itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")
        parts = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]
