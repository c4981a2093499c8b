"""Progress of long jobs on stderr: a bar on a terminal, plain lines in a log, nothing if quiet."""

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


def open_console(quiet: bool = False, stderr: bool = False) -> Console:
    """Open a console on the terminal; without one it is wide, so that logs and files hold whole numbers and names."""
    console = Console(quiet=quiet, stderr=stderr)
    return console if console.is_terminal else Console(quiet=quiet, stderr=stderr, width=250)


def watched(console: Console) -> bool:
    """Return whether to draw moving bars: on a terminal, unless `NO_COLOR` or `TERM=dumb` is set."""
    return console.is_terminal and not console.is_dumb_terminal and "NO_COLOR" not in os.environ


@contextmanager
def progress(what: str, total: float, unit: str = "images", quiet: bool = False) -> Iterator[Callable[[float], None]]:
    """Show how far a job of `total` units is, infinite if unknown; yields a function to report finished units with.

    On a terminal a bar with rate and time left; otherwise, or where `NO_COLOR` or `TERM=dumb` is set, a line every
    half minute and one at the end; nothing if `quiet`.

    Examples:
        >>> with progress("explaining", len(paths)) as done:
        ...     for path in paths:
        ...         done(1)
    """
    console = Console(stderr=True)
    if quiet:
        yield lambda count: None
    elif watched(console):
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(unit))
        with Progress(*columns, TimeRemainingColumn(), console=console, speed_estimate_period=300) as bar:
            task = bar.add_task(what, total=total if math.isfinite(total) else None)
            yield lambda count: bar.advance(task, count)
    else:
        lines = Lines(what, total, unit)
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


class Lines:
    """Progress as lines that stay, on stderr: one every half minute."""

    def __init__(self, what: str, total: float, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0.0
        self.started = self.said = time.monotonic()

    def advance(self, count: float) -> None:
        """Report finished units."""
        self.done += count
        if time.monotonic() - self.said >= _EVERY:
            self.say()

    def say(self) -> None:
        """Write a line now."""
        self.said = time.monotonic()
        rate = self.done / max(1e-9, self.said - self.started)
        known = math.isfinite(self.total)
        left = (
            f", {duration((self.total - self.done) / rate)} left" if known and rate and self.done < self.total else ""
        )
        whole = f" of {self.total:.0f}" if known else ""
        print_line(f"{self.what}: {self.done:.0f}{whole} {self.unit}, {rate:.1f} {self.unit}/s{left}")


def print_line(line: str) -> None:
    """Write a line to stderr at once."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201  # the command's own voice


def duration(seconds: float) -> str:
    """Write seconds as people say them: 42 s, 7 min, 2 h 5 min."""
    if not math.isfinite(seconds) or seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
