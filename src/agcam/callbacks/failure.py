"""End all processes when one of them fails, with one line that names it."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import lightning as L
import torch.distributed as dist
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy, Strategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from agcam.console.interrupt import end_at_next, status_of
from agcam.console.one_line import describe, show_traceback
from agcam.errors import InputError

_SECONDS_TO_END = 20.0
_SECONDS_TO_COUNT = 3.0


class FailureCallback(L.Callback):
    """Say how to resume, and end this process within 20 seconds of an exception, with the processes that it started.

    Whoever started the others ends them: Lightning checks every 5 seconds, torchrun every second (and gives them 30 to
    answer SIGTERM); or they fail by themselves at their next exchange.
    """

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Report the error before anything can wait for a process that will not answer."""
        # an error before the first step is about the options: to start over with the same ones would not help
        interrupted = not isinstance(exception, Exception)
        if trainer.state.fn == TrainerFn.FITTING and (interrupted or trainer.global_step):
            exception.how_to_resume = how_to_resume(trainer)  # type: ignore[attr-defined]  # exceptions take attributes
        if isinstance(exception, (KeyboardInterrupt, SIGTERMException)):
            end_at_next()  # Lightning has just made this process ignore the signal
            if trainer.is_global_zero:
                say_interrupted(exception, getattr(exception, "how_to_resume", ""))
            _end_children(trainer, 0)
        if trainer.world_size == 1 or not isinstance(exception, Exception):
            return
        first = report(exception)
        deadline = threading.Timer(_SECONDS_TO_END, os._exit, [2])
        deadline.daemon = True
        deadline.start()
        _end_children(trainer, 0 if first else _SECONDS_TO_END / 2)


def report(error: Exception) -> bool:
    """Print an error as one line on stderr, with the process if there are several; False if another has reported."""
    if hasattr(error, "reported"):
        return bool(error.reported)
    rank, world_size = _place()
    number = 1 if world_size == 1 else _failures()
    error.reported = number == 1  # type: ignore[attr-defined]  # as above
    said, status = describe(error)
    if resume := getattr(error, "how_to_resume", ""):
        said = f"{said.rstrip('.')}. {resume}"
    if number is None:
        said = f"ended because process 0 is gone ({said})"
    elif number == 1:
        show_traceback(error)
    if number in (None, 1):
        where = f"process {rank} of {world_size}: " if world_size > 1 else ""
        print(f"error: {where}{said}", file=sys.stderr, flush=True)  # noqa: T201  # the command's own voice
    if status == 2 and rank == 0:
        _keep_count(world_size)
    return number == 1


def exit_status(error: Exception) -> int:
    """Report an error that ended a command; return exit status 2 if the user can fix it, else 1."""
    report(error)
    return describe(error)[1]


def say_interrupted(interrupt: BaseException, resume: str = "") -> int:
    """Say that a signal ended the command, and how to resume; return the exit status."""
    print(f"interrupted. {resume}".rstrip(), file=sys.stderr, flush=True)  # noqa: T201  # the command's own voice
    return status_of(interrupt)


def how_to_resume(trainer: L.Trainer) -> str:
    """Say in a sentence how to resume the run from its last checkpoint."""
    savers = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    last = next((c.last_model_path for c in savers if c.last_model_path), "")
    path = last or next((c._last_checkpoint_saved for c in savers if c._last_checkpoint_saved), "")
    if not path:
        return "No checkpoint was written yet: the same command starts over"
    return f"To resume: the same command with --ckpt_path {'last' if last else path}" + (f" ({path})" if last else "")


def check_strategy(strategy: Strategy) -> None:
    """Refuse to explain a model whose weights are spread over processes.

    Raises:
        InputError: always for such a strategy; it names the option that trains without explanations.
    """
    if isinstance(strategy, (FSDPStrategy, ModelParallelStrategy, DeepSpeedStrategy)):
        raise InputError(
            f"{type(strategy).__name__} spreads the weights over processes, and explaining needs whole blocks; train "
            "without explanations (--explain false) or with --trainer.strategy ddp"
        )


def _place() -> tuple[int, int]:
    """Return the number of this process, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    world_size = os.environ.get("WORLD_SIZE", "")
    return int(getattr(rank_zero_only, "rank", 0) or 0), int(world_size) if world_size.isdecimal() else 1


def _failures() -> int | None:
    """Count this failure; return how many processes have failed, or None if process 0, which counts, is gone."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    try:
        return int(dist.distributed_c10d._get_default_store().add("agcam/failed", 1))
    except (RuntimeError, ValueError):
        return None


def _keep_count(world_size: int) -> None:
    """Keep process 0, which counts, alive until the others have failed of the same error, but not for long."""
    deadline = time.monotonic() + _SECONDS_TO_COUNT
    with suppress(RuntimeError, ValueError):
        while dist.is_initialized() and time.monotonic() < deadline:
            if dist.distributed_c10d._get_default_store().add("agcam/failed", 0) >= world_size:
                return
            time.sleep(0.05)


def _end_children(trainer: L.Trainer, grace: float) -> None:
    """Kill the processes that Lightning started from this one and that still run after `grace` seconds."""
    launcher = trainer.strategy.launcher
    deadline = time.monotonic() + grace
    children: list[Any] = getattr(launcher, "procs", [])
    for child in children:
        with suppress(Exception):
            child.wait(max(0.0, deadline - time.monotonic()))
        if child.poll() is None:
            child.kill()
    children.clear()  # else Lightning's observer kills this process, too, before it can return its exit status
