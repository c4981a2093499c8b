"""Ctrl-C: once for a clean stop, twice to end at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTED = 130
"""Exit status, as shells expect it: 128 + SIGINT."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the first Ctrl-C raise `KeyboardInterrupt`, and the second end the process whatever it is doing."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals, and may ask for them
        yield
        return
    before: Any = signal.signal(signal.SIGINT, _first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Start processes that no Ctrl-C reaches: whoever starts them ends them. On Windows it reaches them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def end_at_next() -> None:
    """Have the next Ctrl-C end the process."""
    signal.signal(signal.SIGINT, _second)


def _first(number: int, frame: FrameType | None) -> None:
    end_at_next()
    raise KeyboardInterrupt


def _second(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
