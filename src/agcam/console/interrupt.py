"""Ctrl-C, SIGTERM and SIGHUP: once for a clean stop, twice to end at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTED = 128 + signal.SIGINT
"""Exit status of Ctrl-C, as shells expect it."""
TERMINATED = 128 + signal.SIGTERM
"""Exit status of a scheduler's SIGTERM."""
_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
_SECONDS_OF_ONE_REQUEST = 1.0
_asked: list[float] = []
"""When this process was first asked to stop; empty before."""


class Interrupted(KeyboardInterrupt):
    """A signal asks for a clean stop: Ctrl-C, the SIGTERM of a scheduler, the SIGHUP of a terminal that closes.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number
        """Exit status."""


def status_of(interrupt: BaseException) -> int:
    """Return the exit status of an interrupted command, whether Python or `interruptible` raised the interrupt."""
    return interrupt.status if isinstance(interrupt, Interrupted) else INTERRUPTED


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the first signal raise `Interrupted`, and the second end the process at once.

    A scheduler may send SIGTERM or SIGHUP to a process and again to its group: within a second that is one request.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals, and may ask for them
        yield
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if _HANGUP is not None and signal.getsignal(_HANGUP) != signal.SIG_IGN:  # nohup's way to have it ignored
        numbers.append(_HANGUP)
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def answer(number: int, frame: FrameType | None) -> None:
        if number == _HANGUP:
            _leave_closed(terminals)
        _answer(number)

    before: dict[int, Any] = {number: signal.signal(number, answer) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Shield processes started within the block from Ctrl-C and a closing terminal: their parent ends them.

    On Windows it has no effect.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *([] if _HANGUP is None else [_HANGUP])})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def end_at_next() -> None:
    """Let the next Ctrl-C end the process."""
    _asked.append(time.monotonic())
    signal.signal(signal.SIGINT, lambda number, frame: _answer(number))


def _answer(number: int) -> None:
    if not _asked:
        _asked.append(time.monotonic())
        raise Interrupted(number)
    if number == signal.SIGINT or time.monotonic() - _asked[0] > _SECONDS_OF_ONE_REQUEST:
        os._exit(128 + number)


def _leave_closed(terminals: list[int]) -> None:
    """Discard output to terminals that were closed, where writing would fail."""
    for descriptor in terminals:
        if not os.isatty(descriptor):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
