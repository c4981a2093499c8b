"""Reword Lightning's errors about options where they name neither the option nor a value that works."""

from __future__ import annotations

import re

from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry

from agcam.errors import brief


def in_our_words(error: Exception) -> str:
    """Reword a message of Lightning's so that it names the option."""
    said = brief(error)
    if "No supported gpu backend found" in said:
        return (
            "--trainer.accelerator gpu: torch finds no GPU here; leave the option out or set it to cpu, or install the "
            "driver and the torch that fit the GPU"
        )
    if found := re.search(r"`(\w+)Accelerator` can not run on your system.*: (\[[^]]*\])", said):
        return f"--trainer.accelerator {found[1].lower()}: there is none here; possible are {found[2]}"
    if found := re.search(r"`Trainer\(devices=(.*?)\)` value is not a valid input", said):
        return (
            f"--trainer.devices {_bare(found[1])}: expected a number of at least 1, a list of devices, -1 (all) or auto"
        )
    if "`devices` selected with `CPUAccelerator`" in said:
        return "--trainer.devices: expected a number of at least 1 for a CPU"
    if found := re.search(r"invalid accelerator name: `accelerator=(.*?)`", said):
        known = ", ".join(["auto", "gpu", *sorted(AcceleratorRegistry.available_accelerators())])
        return f"--trainer.accelerator {_bare(found[1])}: there is no such accelerator; known are {known}"
    if found := re.search(r"invalid strategy name: `strategy=(.*?)`", said):
        known = ", ".join(n for n in sorted(StrategyRegistry.available_strategies()) if "_find_unused" not in n)
        return f"--trainer.strategy {_bare(found[1])}: there is no such strategy; known are {known}"
    if found := re.search(r"`--ntasks=(\d+)` in your SLURM bash script", said):
        return (
            f"SLURM_NTASKS is {found[1]} and SLURM_NTASKS_PER_NODE is not set: ask SLURM for --ntasks-per-node="
            f"{found[1]} instead of --ntasks; in an interactive job, unset SLURM_NTASKS"
        )
    return f"Lightning: {said}"


def _bare(value: str) -> str:
    return value.strip("'\"")
