"""The state of the random generators at one moment of a forward, to draw the same numbers again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RandomState:
    """What the generators of the CPU and of one device would draw next.

    Attributes:
        device: of the forward.
        cpu: state of the CPU's generator.
        accelerator: state of the device's generator; None where it is the CPU.
    """

    device: torch.device
    cpu: Tensor
    accelerator: Tensor | None

    @classmethod
    def of(cls, device: torch.device) -> RandomState:
        """Read the present state."""
        other = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device)
        return cls(device, torch.get_rng_state(), other)

    def set(self) -> None:
        """Have the generators draw what they drew from this state on."""
        torch.set_rng_state(self.cpu)
        if self.accelerator is not None:
            torch.get_device_module(self.device).set_rng_state(self.accelerator, self.device)

    @contextmanager
    def leaving_generators(self) -> Iterator[None]:
        """Leave the generators as they were found, whatever is set or drawn inside the block."""
        before = RandomState.of(self.device)
        try:
            yield
        finally:
            before.set()
