"""How many processor cores this process may use."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Count the cores that this process may use: a scheduler or `taskset` may allow fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # Linux; Python 3.13 has os.process_cpu_count for all
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
