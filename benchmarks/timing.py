"""Interleaved timing and peak memory, shared by the benchmarks."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from agcam.data.cores import usable_cores


@dataclass(frozen=True)
class Timing:
    """Seconds of a variant over the rounds, and its ratio to the first variant within each round."""

    seconds: list[float]
    ratios: list[float]

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float:
        """Median over rounds of the ratio to the first variant: other load on the machine cancels out."""
        return statistics.median(self.ratios)


def interleave(
    variants: dict[str, Callable[[], object]], rounds: int, device: str, *, warm_up: bool = True
) -> dict[str, Timing]:
    """Run every variant once a round, in turn, after one round to warm up unless each takes minutes."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(0 if warm_up else 1, rounds + 1):
        for name, run in variants.items():
            synchronize(device)
            start = time.perf_counter()
            run()
            synchronize(device)
            if number:
                seconds[name].append(time.perf_counter() - start)
    first = seconds[next(iter(variants))]
    return {
        name: Timing(values, [v / f for v, f in zip(values, first, strict=True)]) for name, values in seconds.items()
    }


def synchronize(device: str) -> None:
    """Wait until the device has finished its work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def resident_bytes(peak: bool) -> int:
    """Return this process's resident memory now, or its peak since the start."""
    field = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def machine(device: str) -> dict[str, str]:
    """Describe the machine and the versions of a measurement."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else _processor()
    versions = {p: importlib.metadata.version(p) for p in ("torch", "timm", "lightning")}
    return {
        "device": name,
        "threads": str(torch.get_num_threads()),
        "cores": str(usable_cores()),
        "python": platform.python_version(),
        **versions,
        "date": datetime.date.today().isoformat(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
