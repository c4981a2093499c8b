"""Trying a reader on many broken inputs: it reads or refuses them, with an error of ours, soon, in little memory."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agcam.errors import AgcamError

SECONDS = 10
"""Time of this processor that one input may take."""
_ADDRESS_SPACE = 8 << 30


def inputs(quick: int) -> pytest.MarkDecorator:
    """Run a test twice: with `quick` inputs in each test run; with many where slow tests are asked for.

    `pytest tests/fuzz -m slow -rP` prints a line for each reader; AGCAM_FUZZ_INPUTS says how many are many (10,000).
    """
    many = int(os.environ.get("AGCAM_FUZZ_INPUTS", "10000"))
    long = pytest.param(many, marks=[pytest.mark.slow, pytest.mark.timeout(20_000)], id="long")
    return pytest.mark.parametrize("examples", [pytest.param(quick, id="quick"), long])


@dataclass
class Figures:
    """What became of the inputs of one test."""

    inputs: int = 0
    refused: int = 0
    slowest: float = 0.0
    megabytes: float = 0.0


class HangError(BaseException):
    """An input took longer than `SECONDS`; no `except Exception` of a reader may swallow that."""


def fuzz(
    name: str,
    strategy: st.SearchStrategy[Any],
    read: Callable[[Any], object],
    where: Path | str,
    examples: int,
    megabytes: int = 512,
) -> None:
    """Give `examples` inputs to `read`. Anything but success and an `AgcamError` that names `where` is a failure.

    Args:
        name: of the reader, for the line of figures.
        strategy: makes the inputs.
        read: the reader.
        where: what messages must name: the file, or the folder that holds it.
        examples: how many inputs. Up to 1,000 they are the same on every run.
        megabytes: what all inputs together may add to the largest memory that this process has held.
    """
    figures, before = Figures(), 0

    @settings(
        max_examples=examples,
        derandomize=examples <= 1000,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(strategy)
    def attempt(found: Any) -> None:
        nonlocal before
        if figures.inputs == 1:  # the first one loads what readers need
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        figures.inputs += 1
        said = None
        start = time.process_time()
        try:
            with _limits():
                read(found)
        except AgcamError as error:
            said = str(error)
        figures.slowest = max(figures.slowest, time.process_time() - start)
        figures.refused += said is not None
        assert said is None or str(where) in said, f"{said!r} does not name {where}"
        assert said is None or len(said) < 3000, "a message for people is no dump"

    attempt()
    figures.megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert figures.megabytes < megabytes
    line = f"{name} | {figures.inputs:,} | {figures.refused:,} | {figures.slowest:.2f} s | {figures.megabytes:.0f} MB"
    print(line)  # noqa: T201  # for -rP


def fuzz_one_of(
    name: str,
    broken: Mapping[Path, st.SearchStrategy[bytes]],
    read: Callable[[], object],
    where: Path,
    examples: int,
) -> None:
    """As `fuzz`, for a reader of several files: break one of them at a time and mend it again."""
    valid = {path: path.read_bytes() for path in broken}

    def attempt(found: tuple[Path, bytes]) -> None:
        path, content = found
        path.write_bytes(content)
        try:
            read()
        finally:
            path.write_bytes(valid[path])

    contents = [st.tuples(st.just(path), content) for path, content in broken.items()]
    fuzz(name, st.one_of(contents), attempt, where, examples)


@contextmanager
def _limits() -> Iterator[None]:
    """Limits of time and address space on what is done inside."""

    def stop(*_: object) -> None:
        raise HangError(f"more than {SECONDS} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGVTALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + _ADDRESS_SPACE, hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
