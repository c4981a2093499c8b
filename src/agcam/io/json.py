"""Turn dataclasses into plain values that JSON can hold, and back."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from agcam.io.atomic import write_whole
from agcam.io.text import quoted

RECORD = "run.json"
"""What a run, or a folder of explained photographs, says of itself."""


def to_json(value: Any) -> Any:
    """Return `value` with dataclasses as dictionaries, NumPy's numbers as Python's, and NaN and infinity as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_json({f.name: getattr(value, f.name) for f in fields(value)})
    if isinstance(value, dict):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write a dataclass as a JSON file of ASCII, which holds names of any bytes; it appears only when whole."""
    write_whole(path, json.dumps(to_json(value), indent=indent, allow_nan=False).encode("ascii"))


def from_json(kind: Any, value: Any, where: str = "it") -> Any:
    """Read `value` as a `kind`: a dataclass, `list[…]`, `dict[str, …]`, `… | None`, a plain type; null is a NaN float.

    Raises:
        ValueError: naming the place where `value` is of another kind, or has entries missing or unknown.
    """
    if kind is Any:
        return value
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
        if isinstance(value, dict) and needed <= set(value) <= set(hints):
            return kind(**{name: from_json(hints[name], entry, f"{where}.{name}") for name, entry in value.items()})  # type: ignore[operator]  # the class, not one of its objects
        raise ValueError(f"{where} is {quoted(repr(value))}, expected {', '.join(hints)}")
    args, origin = get_args(kind), get_origin(kind)
    if NoneType in args:
        return None if value is None else from_json(next(a for a in args if a is not NoneType), value, where)
    if origin is list and isinstance(value, list):
        return [from_json(args[0], entry, f"{where}[{number}]") for number, entry in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {name: from_json(args[1], entry, f"{where}.{name}"[:200]) for name, entry in value.items()}
    if kind is float and (value is None or type(value) in (int, float)):
        return math.nan if value is None else float(value)
    if type(value) is kind:
        return value
    raise ValueError(f"{where} is {quoted(repr(value))}, expected {getattr(kind, '__name__', kind)}")
