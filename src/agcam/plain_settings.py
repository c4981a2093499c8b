"""Whether settings that a checkpoint is to hold can be read back from it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from agcam.errors import ModelError


def check_plain(settings: Mapping[str, Any], owner: str) -> None:
    """Refuse settings that `torch.load(weights_only=True)` would not read: the run could never be resumed.

    Args:
        settings: what is to be saved.
        owner: whose settings, for the message, such as "model".

    Raises:
        ModelError: naming the setting and the type of its value.
    """
    if _is_readable(dict(settings)):
        return
    for name, value in settings.items():
        if not _is_readable(value):
            place, culprit = next(_unreadable(f"{owner}.{name}", value))
            kind = f"{type(culprit).__module__}.{type(culprit).__qualname__}"
            raise ModelError(
                f"{place} is {str(culprit)[:100]!r}, a {kind}, which could not be read back from the checkpoint; give "
                "plain numbers, texts, lists and dictionaries"
            )


def _unreadable(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What cannot be read back, the innermost first."""
    if isinstance(value, Mapping | list | tuple):
        for key, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            if not _is_readable(part):
                yield from _unreadable(f"{place}.{key}", part)
    yield place, value


def _is_readable(value: Any) -> bool:
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # pickle raises whatever an object makes it stumble over
        return False
    return True
