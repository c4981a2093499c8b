"""A model in evaluation mode within a block, and other switches of modules that several threads may hold at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

from torch import nn

from agcam.module_tree import all_modules


@dataclass
class _Held:
    module: nn.Module  # kept, or its id could be given to another module
    before: Any
    holders: int = 0


_lock = Lock()
_held: dict[tuple[int, str], _Held] = {}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` into evaluation mode, and restore the mode of each module afterwards."""
    with switched(all_modules(model), "training", False):
        yield


@contextmanager
def switched(modules: Iterable[nn.Module], name: str, value: object) -> Iterator[None]:
    """Set the attribute `name` of each module to `value`; give back what it was when the last thread leaves.

    Each thread that saved and restored the attribute for itself would restore it under the others, and would take for
    the original what another one had set.
    """
    chosen = list(modules)
    with _lock:
        for module in chosen:
            held = _held.setdefault((id(module), name), _Held(module, getattr(module, name)))
            held.holders += 1
            vars(module)[name] = value
    try:
        yield
    finally:
        with _lock:
            for module in chosen:
                held = _held[id(module), name]
                held.holders -= 1
                if not held.holders:
                    del _held[id(module), name]
                    vars(module)[name] = held.before
