"""Find in jsonargparse's messages, trees of unions and class names, the one option that is wrong, and why."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from agcam.cli.options.type_words import expected_words
from agcam.errors import brief

_KEY = re.compile(r'Parser key "([^"]*)":\s*(.*)', re.DOTALL)
_CLASS = re.compile(r"Problem with given class_path '([^']*)':\s*\n?(.*)", re.DOTALL)
_GOT = re.compile(r"Expected an? (.*?)\. Got value:\s?(.*)", re.DOTALL)
_UNION = re.compile(
    r"Does not validate against any of the Union subtypes\s*\nSubtypes: \[(.*?)\]\nErrors:\n(.*?)"
    r"\nGiven value type: [^\n]*\nGiven value: (.*)",
    re.DOTALL,
)
_UNKNOWN = re.compile(
    r"(?:unrecognized arguments:|ambiguous option:) (?:--)?([^\s=]+)|Option '([^']*)' is not accepted"
    r"|Subcommand '[^']*' does not accept option '([^']*)'|Key '([^']*)' is not expected"
)
_NO_CLASS = re.compile("has no attribute|No module named|not correspond to a subclass|is not a subclass")
_MISSING = re.compile(r"the following arguments are required: (.*)|Key '([^']*)' is required", re.DOTALL)


@dataclass(frozen=True)
class Problem:
    """What is wrong with one option.

    Attributes:
        key: the option's name with dots; empty where it is not known.
        kind: an unknown name, a missing value, a wrong value, an unknown class, or something else.
        said: what is wrong, in words; empty for an unknown name and an unknown class.
        found: the value as jsonargparse shows it, if it does.
        expected: types as jsonargparse writes them.
        owner: import path of the class that takes the option, where it is not the command itself.
        owner_key: the option that chose this class.
    """

    key: str
    kind: Literal["unknown", "missing", "value", "class", "other"]
    said: str = ""
    found: str | None = None
    expected: tuple[str, ...] = ()
    owner: str = ""
    owner_key: str = ""


def read_problem(message: str, key: str = "", owner: str = "") -> Problem:
    """Find the one problem in a message of jsonargparse.

    Args:
        message: the whole message.
        key: of the option that it is about, if that is known from what surrounds the message.
        owner: import path of the class that takes the option.
    """
    text = textwrap.dedent(message.strip("\n")).strip()
    if found := _KEY.match(text):
        return read_problem(_dedent_rest(found[2]), _join(key, found[1]), owner)
    if found := _CLASS.match(text):
        inner = read_problem(found[2], key, found[1])
        return inner if inner.owner_key else replace(inner, owner_key=key)
    if found := _UNION.search(text):
        return _read_union(found, key, owner)
    if found := _GOT.match(text):
        types = (found[1],)
        return Problem(key, "value", f"expected {expected_words(types)}", found[2], types, owner)
    if found := _UNKNOWN.search(text):
        name = next(group for group in found.groups() if group)
        if text.startswith(f"unrecognized arguments: {name}"):
            return Problem(key, "other", f"{name!r} is not expected; options begin with --")
        return Problem(_join(key, name), "unknown", owner=owner)
    if found := _MISSING.match(text):
        name = next(group for group in found.groups() if group).split(",")[0].split()[0]
        return Problem(_join(key, name), "missing", "is missing", owner=owner)
    if found := re.match(r"Unable to load config ['\"](.*?)['\"]\s*(?:\n|$)", text, re.DOTALL):
        return Problem(key, "value", "expected names with values ({name: value})", found[1], ("dict",), owner)
    if found := re.match(r"Unexpected config: (.*)", text, re.DOTALL):
        return Problem(key, "value", "expected a configuration of names with values", found[1])
    if found := re.match(r"argument subcommand: invalid choice: (\S+) \(choose from (.*)\)", text):
        return Problem("", "other", f"no command {found[1]}; known are {found[2]}")
    if text.startswith('expected "subcommand"'):
        return Problem("", "other", f"no command is named; {text.partition(', but')[0].replace(chr(34), '')}")
    if found := re.match(r"argument (?:-\w/)?(?:--)?([^:\s]+): (.*)", text, re.DOTALL):
        return Problem(_join(key, found[1].split("/")[0]), "other", _plain(found[2]), owner=owner)
    return Problem(key, "other", _without_types(brief(text, 300)), owner=owner)


def _read_union(found: re.Match[str], key: str, owner: str) -> Problem:
    """Choose, of the reasons why each type of a union does not match, the most specific."""
    types, value = _split(found[1]), found[3]
    reasons = _items(found[2])
    for reason in reasons:  # a class was named: report what is wrong with it
        if _CLASS.match(reason):
            inner = read_problem(reason, key, owner)
            if inner.kind == "other" and _NO_CLASS.search(reason):
                return Problem(key, "class", found=inner.owner, expected=types)
            return inner
    unknown = [reason for reason in reasons if reason.startswith("Expected a dot import path string")]
    if unknown:
        name = unknown[0].partition(":")[2].strip()
        return Problem(key, "class", found=name, expected=types, owner=owner)
    named = [reason for reason in reasons if _KEY.match(reason)]
    if named:
        return read_problem(named[0], key, owner)
    expected = tuple(kind for kind in types if "NoneType" not in kind) + (
        ("<class 'NoneType'>",) if any("NoneType" in kind for kind in types) else ()
    )
    return Problem(key, "value", f"expected {expected_words(expected)}", value, expected, owner)


def _items(text: str) -> list[str]:
    """Split a list into its entries, each beginning with a dash at the same depth."""
    parts = re.split(r"^- ", textwrap.dedent(text), flags=re.MULTILINE)
    return [textwrap.dedent(_dedent_rest(part)).strip() for part in parts if part.strip()]


def _dedent_rest(text: str) -> str:
    """Dedent all lines but the first, which has lost its indentation."""
    first, _, rest = text.partition("\n")
    return f"{first}\n{textwrap.dedent(rest)}" if first.strip() else textwrap.dedent(rest)


def _split(types: str) -> tuple[str, ...]:
    """Split types at the commas outside of brackets and quotation marks."""
    return tuple(part.strip() for part in re.findall(r"(?:\[[^\]]*(?:\[[^\]]*\][^\]]*)*\]|'[^']*'|[^,])+", types))


def _join(key: str, name: str) -> str:
    name = re.sub(r"^(fit|validate|test|lr_find|scale_batch_size)\.", "", name.strip())
    return f"{key}.{name}" if key and name and name != key else key or name


def _plain(said: str) -> str:
    return "needs a value" if said == "expected one argument" else brief(said)


def _without_types(text: str) -> str:
    """Return a message that is not understood, without the markup of Python's types."""
    return re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", text)


def option_path(key: str) -> Sequence[str]:
    """Split an option's name into its parts, without those that only YAML has."""
    return [part for part in key.split(".") if part not in ("init_args", "dict_kwargs")]
