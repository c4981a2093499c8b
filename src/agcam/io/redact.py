"""Replace the home directory by `~` in what a run writes: its path names the user."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import Namespace


def without_home(value: Any) -> Any:
    """Replace the home directory by `~` at the start of every text in plain data or a parsed configuration."""
    home = str(Path.home())
    return _texts(value, lambda text: f"~{text[len(home) :]}" if _begins(text, home) else text)


def with_home(value: Any) -> Any:
    """Undo `without_home`; `~` becomes the home directory of whoever reads."""
    return _texts(value, lambda text: os.path.expanduser(text) if _begins(text, "~") else text)  # noqa: PTH111  # no Path: "~//x/" stays


def _begins(text: str, start: str) -> bool:
    return text == start or text.startswith(f"{start.rstrip('/')}/")


def _texts(value: Any, change: Callable[[str], str]) -> Any:
    """Copy `value` with every text in its dicts, lists and namespaces changed."""
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
