"""Measure what the command and the package take before they do anything: processor time and peak memory.

Run: python benchmarks/startup.py  (Linux and macOS; writes results/startup.md)
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

QUICKSTART = str(Path(__file__).parents[1] / "configs" / "quickstart.yaml")
CASES = {
    "agcam --help": ["-m", "agcam", "--help"],
    "agcam fit --help": ["-m", "agcam", "fit", "--help"],
    "agcam fit --modle.lr 1": ["-m", "agcam", "fit", "--modle.lr", "1"],
    "agcam fit --config … --trainer.max_epoch 1": [
        "-m",
        "agcam",
        "fit",
        "--config",
        QUICKSTART,
        "--trainer.max_epoch",
        "1",
    ],
    "import agcam": ["-c", "import agcam"],
    "import torch": ["-c", "import torch"],
    "agcam.explain, torch included": ["-c", "import agcam; agcam.explain"],
}


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for _ in range(options.rounds):
        for name, arguments in CASES.items():
            found[name].append(measure(arguments))
    from timing import machine  # loads torch: a process inherits the peak of the one that starts it

    lines = [" · ".join(f"{name} {value}" for name, value in machine("cpu").items()), ""]
    lines += ["| what | processor seconds | peak MB |", "|---|--:|--:|"]
    for name, measured in found.items():
        seconds, megabytes = (statistics.median(values) for values in zip(*measured, strict=True))
        lines.append(f"| `{name}` | {seconds:.2f} | {megabytes:.0f} |")
    text = "\n".join(lines) + "\n"
    (options.output / "startup.md").write_text(text)
    print(text)


def measure(arguments: list[str]) -> tuple[float, float]:
    """Run Python once; return seconds of processor time and the peak of resident memory in megabytes."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return used.ru_utime + used.ru_stime, used.ru_maxrss * unit / 1e6


if __name__ == "__main__":
    main()
