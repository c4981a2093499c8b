"""Which of several processes this is, as torchrun says it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from agcam.errors import InputError


@dataclass(frozen=True)
class Process:
    """One of the processes that share the work.

    Attributes:
        rank: from 0.
        count: of all processes.
        local_rank: rank among those on this machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0


def this_process() -> Process:
    """Read RANK, WORLD_SIZE and LOCAL_RANK, which torchrun sets; without them there is one process.

    Raises:
        InputError: if one is no number, or they contradict each other.
    """
    rank, count, local_rank = (_number(name, default) for name, default in _DEFAULTS.items())
    if not 0 <= rank < count:
        raise InputError(f"RANK is {rank} and WORLD_SIZE {count}, expected a rank from 0 to {max(count - 1, 0)}")
    return Process(rank, count, local_rank)


_DEFAULTS = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise InputError(f"the environment variable {name} is {text!r}, expected a whole number; unset it") from None
