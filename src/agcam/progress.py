"""Progress of long jobs on stderr: a bar for people who watch, plain lines for logs, nothing for those who ask."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

_EVERY = 30.0


@contextmanager
def progress(what: str, total: int, unit: str = "images", quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show how far a job of `total` units is; the context gives a function that is told of finished ones.

    On a terminal a bar with rate and time left; otherwise, or where `NO_COLOR` or `TERM=dumb` is set, a line every
    half minute and one at the end; nothing if `quiet`.

    Example:
        >>> with progress("explaining", len(paths)) as done:
        ...     for path in paths:
        ...         done(1)
    """
    console = Console(stderr=True)
    if quiet:
        yield lambda count: None
    elif console.is_terminal and not console.is_dumb_terminal and "NO_COLOR" not in os.environ:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(unit))
        with Progress(*columns, TimeRemainingColumn(), console=console, speed_estimate_period=300) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)
    else:
        lines = _Lines(what, total, unit)
        yield lines.advance
        lines.say()


class _Rate(ProgressColumn):
    """Units a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self.unit}/s" if speed and math.isfinite(speed) else f"– {self.unit}/s")


class _Lines:
    """Progress as lines that stay."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0
        self.started = self.said = time.monotonic()

    def advance(self, count: int) -> None:
        self.done += count
        if time.monotonic() - self.said >= _EVERY:
            self.say()

    def say(self) -> None:
        self.said = time.monotonic()
        rate = self.done / max(1e-9, self.said - self.started)
        left = f", {(self.total - self.done) / rate:.0f} s left" if rate and self.done < self.total else ""
        line = f"{self.what}: {self.done} of {self.total} {self.unit}, {rate:.1f} {self.unit}/s{left}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201  # the command's own voice
