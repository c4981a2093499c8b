"""The facts on top of every report, in one order, and the settings of a run; no absolute path in either."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from agcam.errors import DataError, brief
from agcam.report.model import Fact

_SECTIONS = {"model": "Model", "data": "Data", "trainer": "Trainer", "explanation": "Explanation"}
_ABSOLUTE = re.compile(r"(?:/|~/|~\w+/|[A-Za-z]:[\\/])")


@dataclass(frozen=True)
class About:
    """What a report is of. What is not known is empty, and stays out.

    Attributes:
        run: its name.
        model: the architecture, or the checkpoint.
        weights: what it started from, or where they come from.
        data: the data set and its split.
        methods: explanation methods.
        settings: what was chosen, in words.
        date: of the day.
        versions: by package.
        device: that it ran on.
        cost: what it took, in words.
    """

    run: str = ""
    model: str = ""
    weights: str = ""
    data: str = ""
    methods: tuple[str, ...] = ()
    settings: str = ""
    date: str = ""
    versions: Mapping[str, str] | None = None
    device: str = ""
    cost: str = ""


def facts_of(about: About) -> list[Fact]:
    """Return the facts that are known, in the order in which every report has them."""
    versions = ", ".join(f"{name} {version}" for name, version in (about.versions or {}).items())
    methods = ", ".join(about.methods)
    found = [
        Fact("Run", without_path(about.run)),
        Fact("Model", without_path(about.model)),
        Fact("Weights", without_path(about.weights)),
        Fact("Data", without_path(about.data)),
        Fact("Methods" if len(about.methods) > 1 else "Method", methods, "How heatmaps were computed."),
        Fact("Settings", about.settings),
        Fact("Date", about.date),
        Fact("Versions", versions, "Of the programs that it was made with."),
        Fact("Device", about.device),
        Fact("Cost", about.cost),
    ]
    return [fact for fact in found if fact.value]


def duration(seconds: float) -> str:
    """Write a time as people say it: "under 1 s", "45 s", "3 min 12 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 1:
        return "under 1 s"
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def without_path(text: str) -> str:
    """Return the last part of an absolute path, or one below a home directory; any other text as it is."""
    if not _ABSOLUTE.match(text):
        return text
    return (PureWindowsPath(text) if "\\" in text else PurePath(text)).name or text


def read_run_record(path: Path) -> dict[str, Any]:
    """Read what a run, or a folder of explained photographs, says of itself; empty of an older version."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not the record of a run ({brief(error)}); delete it to do without") from error
    return found if isinstance(found, dict) else {}


def settings_of(config: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return by section the settings of a configuration that are set, with their dotted names."""
    found: dict[str, list[tuple[str, str]]] = {}
    for section, title in _SECTIONS.items():
        if entries := _flat(config.get(section), ""):
            found[title] = entries
    rest = {name: value for name, value in config.items() if name not in _SECTIONS}
    if entries := _flat(rest, ""):
        found["Command"] = entries
    return found


def _flat(value: Any, name: str) -> list[tuple[str, str]]:
    if isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value):
        value = {str(number): entry for number, entry in enumerate(value, start=1)}
    if isinstance(value, dict):
        joined = [(f"{name}.{key}" if name else str(key), entry) for key, entry in value.items()]
        return [pair for path, entry in joined for pair in _flat(entry, path.replace("init_args.", ""))]
    if value is None:
        return []
    entries = value if isinstance(value, list) else [value]
    return [(name, ", ".join(without_path(str(entry)) for entry in entries))]
