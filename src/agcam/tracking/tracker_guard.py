"""Keep trackers from stopping the training: what a logger raises is reported once.

Lightning calls its loggers directly, in the middle of its loops, and lets through what they raise: a server that goes
away ends the run that it was to record. The guard sits on the methods of each logger *object*. A wrapper around the
logger would no longer be a `WandbLogger` to Lightning, to other callbacks and to `isinstance`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_warn

# all that Lightning calls on a logger after the run has started
_METHODS = ("log_metrics", "log_hyperparams", "log_graph", "save", "after_save_checkpoint", "finalize")
_QUICK = 0.1
_REST = 20.0
"""How many times as long as a failed call took, if that was more than `_QUICK` seconds, the tracker is left alone:
failures cost a twentieth of the time. A full disk fails at once, and no row that waits for it in memory may be lost."""


@dataclass
class _Trouble:
    reported: bool = False
    rest_until: float = 0.0


_troubles: WeakKeyDictionary[object, _Trouble] = WeakKeyDictionary()
_lock = threading.Lock()


class _Guarded:
    """A method of a logger that reports its errors. Not a closure: launchers that spawn pickle loggers."""

    def __init__(self, logger: Logger, method: str) -> None:
        self.logger = logger
        self.method = method

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        method = getattr(type(self.logger), self.method)
        # the last call, which says how the run ended, is always made
        attempt(self.logger, partial(method, self.logger, *args, **kwargs), always=self.method == "finalize")


def guard_loggers(loggers: Sequence[Logger]) -> None:
    """Guard loggers that are not guarded yet."""
    for logger in loggers:
        for method in _METHODS:
            vars(logger).setdefault(method, _Guarded(logger, method))


def attempt(who: object, action: Callable[[], Any], always: bool = False) -> None:
    """Call `action` for a tracker. Its first error becomes a warning, later ones are dropped.

    After a slow failure, as of a server that does not answer, the tracker gets no calls for a while.

    Args:
        who: the logger, or whatever else writes.
        action: what to do.
        always: call even within that while.
    """
    with _lock:
        trouble = _troubles.setdefault(who, _Trouble())
    began = time.monotonic()
    if began < trouble.rest_until and not always:
        return
    try:
        action()
    except Exception as error:
        now = time.monotonic()
        with _lock:
            if now - began > _QUICK:
                trouble.rest_until = now + _REST * (now - began)
            first, trouble.reported = not trouble.reported, True
        if first:
            said = first_line(_root(error))
            rank_zero_warn(
                f"{type(who).__name__} failed ({said}). Training continues, and this is not reported again; "
                "what else is recorded, metrics.csv and explanations/ for one, is not affected."
            )


def _root(error: BaseException) -> BaseException:
    """Return the first cause of an error: Lightning's TensorBoardLogger calls a full disk an unsupported value."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def first_line(error: BaseException) -> str:
    """Return type and first line of an error."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    return f"{type(error).__name__}: {said[:300]}"
