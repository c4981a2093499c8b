"""Compiled code runs no Python that could be seen: it runs eagerly while something is recorded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch

_lock = Lock()
_inside: list[Any] = []
"""One entry a thread that is inside; the first is what puts the stance back. The stance is the whole process's."""


@contextmanager
def running_eagerly() -> Iterator[None]:
    """Run compiled code eagerly; the last thread to leave puts the stance of `torch.compile` back."""
    # where nothing was compiled, importing dynamo takes seconds
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with _lock:
        _inside.append(None if _inside else torch.compiler.set_stance("force_eager"))
    try:
        yield
    finally:
        with _lock:
            if len(_inside) == 1:
                _inside[0].__exit__(None, None, None)
            _inside.pop()
