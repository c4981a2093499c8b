"""Which layers or heads an option names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agcam.errors import InputError

Chosen = int | slice | Sequence[int] | None
"""One number, several or a slice, negative from the last; None for all."""


def choose(option: str, chosen: Chosen, count: int, of: str) -> list[int]:
    """Return the numbers in 0 … count - 1 that an option names.

    Args:
        option: its name, for messages.
        chosen: its value.
        count: how many there are.
        of: what they are, for messages, such as "blocks of vit_tiny_patch16_224".

    Raises:
        InputError: if it names none, one twice, one that is not there, or is something else.
    """
    if chosen is None or isinstance(chosen, slice):
        found = list(range(count)[chosen or slice(None)])
    else:
        several: Any = chosen if isinstance(chosen, list | tuple | range) else [chosen]
        if not all(isinstance(number, int) and not isinstance(number, bool) for number in several):
            raise InputError(f"{option} must be a number, several, a slice or None, found {chosen!r}")
        if any(not -count <= number < count for number in several):
            raise InputError(f"{option}={chosen!r} is out of range: there are {count} {of}, 0 … {count - 1}")
        found = [number % count for number in several]
    if not found:
        raise InputError(f"{option}={chosen!r} chooses none of the {count} {of}")
    if len(set(found)) < len(found):
        raise InputError(f"{option}={chosen!r} names one twice")
    return found
