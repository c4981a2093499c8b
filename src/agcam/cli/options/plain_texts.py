"""Defaults that are enumerations, such as that of Lightning's Timer, as the texts that YAML can hold."""

from __future__ import annotations

from enum import Enum
from typing import Any

from jsonargparse import Namespace


def plain_texts(value: Any) -> Any:
    """Replace members of text enumerations in a parsed configuration by plain text, in place; return it."""
    if isinstance(value, Enum) and isinstance(value, str):
        return str(value.value)
    if isinstance(value, Namespace):
        for key, entry in list(vars(value).items()):
            setattr(value, key, plain_texts(entry))
    elif isinstance(value, list):
        value[:] = [plain_texts(entry) for entry in value]
    return value
