"""Find where the value of an option comes from: the command line, or a line of a configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from agcam.cli.options.problem import option_path
from agcam.io.text import read_text


@dataclass(frozen=True)
class Source:
    """One place that gives an option, or a section that holds it.

    Attributes:
        where: `--name`, or `FILE:LINE`.
        depth: how many parts of the option's name the place gives.
        node: the value as it was written, before YAML interpreted it; None where it cannot be read.
        file: the configuration; None for the command line.
    """

    where: str
    depth: int
    node: yaml.Node | None = None
    file: Path | None = None

    @property
    def text(self) -> str:
        """All scalars of the value as they were written."""
        return " ".join(_scalars(self.node))


def find_source(key: str, args: Sequence[str], files: Sequence[Path], found: str | None = None) -> Source | None:
    """Find the place that gives `key`, or most of its name; of several the one with the value `found`, or the last.

    Args:
        key: an option's name with dots.
        args: the command line.
        files: configurations, in the order in which they are read.
        found: the value that is wrong, as a message shows it.
    """
    parts = option_path(key)
    places = [*(place for file in files for place in _in_file(parts, file)), *_on_command_line(parts, args)]
    if not places:
        return None
    deepest = max(place.depth for place in places)
    best = [place for place in places if place.depth == deepest]
    return next((place for place in reversed(best) if found and place.text and place.text in found), best[-1])


def _on_command_line(parts: Sequence[str], args: Sequence[str]) -> Iterator[Source]:
    for position, arg in enumerate(args):
        if not arg.startswith("--"):
            continue
        option, equals, value = arg.partition("=")
        name = option[2:].removesuffix("+").replace("-", "_")
        depth = _common(option_path(name), parts)
        if not depth:
            continue
        if not equals:
            following = args[position + 1 : position + 2]
            value = following[0] if following and not following[0].startswith("--") else ""
        yield Source(option.removesuffix("+"), depth, _descend(_compose(value), parts[depth:])[0])


def _common(given: Sequence[str], wanted: Sequence[str]) -> int:
    """Count the parts of `wanted` that an option gives; 0 if it gives another. Its last part may be abbreviated."""
    if not given or len(given) > len(wanted):
        return 0
    same = list(given[:-1]) == list(wanted[: len(given) - 1])
    return len(given) if same and wanted[len(given) - 1].startswith(given[-1]) else 0


def _in_file(parts: Sequence[str], file: Path) -> Iterator[Source]:
    try:
        root = yaml.compose(read_text(file), yaml.SafeLoader)
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError):
        return
    node, depth, line = _descend_lines(root, parts)
    if depth:
        yield Source(f"{file}:{line}", depth, node, file)


def _descend(node: yaml.Node | None, parts: Sequence[str]) -> tuple[yaml.Node | None, int]:
    found, depth, _ = _descend_lines(node, parts)
    return found, depth


def _descend_lines(node: yaml.Node | None, parts: Sequence[str]) -> tuple[yaml.Node | None, int, int]:
    """Return the value nearest to `parts` inside `node`, how many parts lead there, and the line of its name."""
    if not parts:
        return node, 0, 1 if node is None else node.start_mark.line + 1
    best: tuple[yaml.Node | None, int, int] = (node, 0, 1 if node is None else node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        inside = [_descend_lines(entry, parts) for entry in node.value if isinstance(entry, yaml.MappingNode)]
        return max([best, *inside], key=lambda place: place[1])
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value in ("init_args", "dict_kwargs"):
                found, depth, line = _descend_lines(value, parts)
            elif name.value == parts[0]:
                found, depth, line = _descend_lines(value, parts[1:])
                depth, line = depth + 1, line if depth else name.start_mark.line + 1
            else:
                continue
            if depth > best[1]:
                best = found, depth, line
    return best


def _compose(value: str) -> yaml.Node | None:
    try:
        return yaml.compose(value, yaml.SafeLoader)
    except (ValueError, TypeError, RecursionError, yaml.YAMLError):
        return None


def _scalars(node: yaml.Node | None, most: int = 50) -> list[str]:
    if isinstance(node, yaml.ScalarNode):
        return [node.value]
    if isinstance(node, yaml.SequenceNode):
        return [text for entry in node.value[:most] for text in _scalars(entry, most // 2)]
    return []


def unquoted(node: yaml.Node | None) -> list[str]:
    """Return the texts of a list, or of one value, if YAML reads at least one of them as something else."""
    entries = node.value if isinstance(node, yaml.SequenceNode) else [node]
    plain = [entry for entry in entries if isinstance(entry, yaml.ScalarNode)]
    odd = [entry for entry in plain if not entry.tag.endswith(":str") or (not entry.style and _is_number(entry.value))]
    return [entry.value for entry in plain] if odd and len(plain) == len(entries) else []


def _is_number(text: str) -> bool:
    """Return whether a text is a number in YAML 1.2, as jsonargparse reads it; PyYAML takes 1e3 for a text."""
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text) is not None
