"""Python's types in the words of people who write YAML."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
    "dict": "names with values ({name: value})",
    "Mapping": "names with values ({name: value})",
    "list": "a list ([a, b])",
    "tuple": "a list ([a, b])",
    "Sequence": "a list ([a, b])",
    "Iterable": "a list ([a, b])",
}
LISTS = {name for name, words in _WORDS.items() if words.startswith("a list")}


def expected_words(types: Sequence[str]) -> str:
    """Put types as jsonargparse writes them, such as "<class 'int'>", into words."""
    choices = [choice for kind in types for choice in _choices(kind)]
    words = [f"one of {', '.join(dict.fromkeys(choices))}"] if choices else []
    words += [_word(kind) for kind in types if not _choices(kind)]
    return " or ".join(dict.fromkeys(words))


def base_name(kind: str) -> str:
    """Return the name of a type without its module and its parameters."""
    inner = re.sub(r"^<(?:class|enum) '(.*)'>$", r"\1", kind.strip())
    return inner.partition("[")[0].rpartition(".")[2]


def _word(kind: str) -> str:
    name = base_name(kind)
    inner = kind.partition("[")[2].rpartition("]")[0]
    if name == "Union":
        return expected_words([part.strip() for part in inner.split(",")])
    if name in LISTS and inner == "str":
        return "a list of text ([a, b])"
    return _WORDS.get(name, f"a {name}")


def _choices(kind: str) -> list[str]:
    if base_name(kind) != "Literal":
        return []
    try:
        return [str(choice) for choice in ast.literal_eval(f"[{kind.partition('[')[2].rpartition(']')[0]}]")]
    except (ValueError, SyntaxError):
        return []
