"""Real processes that run train.py's `main`, made quickly: one server imports everything, then forks."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["agcam.cli"])


@dataclass(frozen=True)
class Started:
    """A running command."""

    process: BaseProcess
    output: Path

    def wait(self, seconds: float = 120) -> int:
        """Its exit status, negative for a signal. It is killed, and the test fails, if it takes too long."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"still running after {seconds} s; it printed:\n{self.printed}")
        return self.process.exitcode

    @property
    def printed(self) -> str:
        return self.output.read_text()


def start(arguments: Sequence[str], output: Path, environment: Mapping[str, str] | None = None) -> Started:
    """Run train.py with `arguments` in a process of its own; what it prints goes to the file `output`."""
    inherited = {name: value for name, value in os.environ.items() if name.startswith("AGCAM_TEST")}
    process = _FORKS.Process(target=_main, args=(list(arguments), str(output), inherited | dict(environment or {})))
    process.start()
    return Started(process, output)


def start_together(arguments: Sequence[str], folder: Path, count: int) -> list[Started]:
    """The same command in `count` processes that know of each other, as torchrun would start them."""
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "test",
    }
    command = [*arguments, f"--trainer.devices={count}", "--trainer.strategy=ddp"]
    folder.mkdir(parents=True, exist_ok=True)
    return [
        start(command, folder / f"printed_{rank}", shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _main(arguments: list[str], output: str, environment: dict[str, str]) -> None:
    out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.update(environment | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"})
    import torch

    torch.set_num_threads(1)
    from agcam.cli import main

    sys.argv = ["train.py"]
    sys.exit(main(arguments))
