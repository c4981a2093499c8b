"""Where somebody's home is says who they are: what a run writes down says `~` instead."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import Namespace


def without_home(value: Any) -> Any:
    """A text, plain data or a parsed configuration, `~` in place of the home directory where a text begins with it."""
    home = str(Path.home())
    return _texts(value, lambda text: f"~{text[len(home) :]}" if _begins(text, home) else text)


def with_home(value: Any) -> Any:
    """The inverse of `without_home`; `~` is whoever's home it is that reads."""
    return _texts(value, lambda text: os.path.expanduser(text) if _begins(text, "~") else text)  # noqa: PTH111  # no Path: "~//x/" stays


def _begins(text: str, start: str) -> bool:
    return text == start or text.startswith(f"{start.rstrip('/')}/")


def _texts(value: Any, change: Callable[[str], str]) -> Any:
    """`value` with every text in its dicts, lists and namespaces changed; they are made anew."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _texts(entry, change) for key, entry in value.items()}
    if isinstance(value, Namespace):
        changed = value.clone()
        for key, entry in value.items():
            changed[key] = _texts(entry, change)
        return changed
    if isinstance(value, list):
        return [_texts(entry, change) for entry in value]
    return value
