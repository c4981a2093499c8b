"""Real processes that run train.py's `main`, made quickly: one server imports everything, then forks."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from agcam.io.lock import locked_folder

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["agcam.cli.train", "agcam.cli.explain"])


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
        return self.output.read_text() if self.output.exists() else ""


def start(
    arguments: Sequence[str],
    output: Path,
    environment: Mapping[str, str] | None = None,
    module: str = "agcam.cli.train",
    before: Callable[[], object] | None = None,
) -> Started:
    """Run train.py, or another module's `main`, with `arguments` in a process of its own.

    Args:
        arguments: of the command.
        output: file for what it prints.
        environment: what is added to it.
        module: whose `main` to run.
        before: done in the process first; picklable.
    """
    inherited = {name: value for name, value in os.environ.items() if name.startswith("AGCAM_TEST")}
    environment = inherited | dict(environment or {})
    process = _FORKS.Process(target=_main, args=(list(arguments), str(output), environment, module, before))
    process.start()
    return Started(process, output)


def start_together(
    arguments: Sequence[str],
    folder: Path,
    count: int,
    environment: Mapping[str, str] | None = None,
    module: str = "agcam.cli.train",
) -> list[Started]:
    """The same command in `count` processes that know of each other, as torchrun would start them."""
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "test",
        **(environment or {}),
    }
    command = [*arguments, f"--trainer.devices={count}", "--trainer.strategy=ddp"]
    folder.mkdir(parents=True, exist_ok=True)
    return [
        start(command, folder / f"printed_{rank}", shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, module)
        for rank in range(count)
    ]


@contextmanager
def another_holds(folder: Path) -> Iterator[None]:
    """A folder as it is while another process writes there."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        with locked_folder(folder):
            os.write(theirs, b"!")
            time.sleep(1000)
    os.read(ours, 1)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ours)
        os.close(theirs)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _main(
    arguments: list[str],
    output: str,
    environment: dict[str, str],
    module: str,
    before: Callable[[], object] | None,
) -> None:
    out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.update(environment | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"})
    multiprocessing.set_start_method("fork", force=True)  # for loader workers, as in a process that nobody forked
    import torch

    torch.set_num_threads(1)
    if before is not None:
        before()
    sys.argv = ["train.py"]
    sys.exit(importlib.import_module(module).main(arguments))
