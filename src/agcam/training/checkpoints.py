"""Checkpoints on disk: written whole or not at all, and found again by `--ckpt_path last`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from agcam.errors import ModelError
from agcam.io.atomic import whole_file
from agcam.io.text import quoted
from agcam.tracking import wandb_project
from agcam.training.plain_state import plain
from agcam.training.weights import read_checkpoint

_INSTANTIATORS = ("lightning.pytorch.cli.instantiate_module", "pytorch_lightning.cli.instantiate_module")
"""What Lightning notes in its own checkpoints."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, then renames: whoever stops the process leaves the old checkpoint or the new one.

    Lightning's own writes to the system's temporary folder, which may be another disk; a move from there is a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save to a local path; others are left to Lightning.

        Raises:
            InputError: if the checkpoint could not be read again; nothing is written.
            OutputError: if the disk is full, …; an earlier checkpoint of that name stays whole.
        """
        checkpoint = plain(checkpoint)
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        # one name for all: what a killed process leaves is as large as a checkpoint, and the next one overwrites it
        with whole_file(target, target.with_name(f"{target.name}.part")) as part, part.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # what torch's writer stumbled over
                    raise error.__context__ from error
                raise
            file.flush()
            os.fsync(file.fileno())


def run_folders(trainer: Any) -> list[Path]:
    """Find the folders in which runs of a `trainer:` configuration keep their checkpoints, each run in its own.

    That is the folder of `ModelCheckpoint(dirpath=…)`, or else what its first logger makes `version_N` or a run in.
    """
    callbacks = trainer.get("callbacks") or []
    given = [_option(c, "dirpath") for c in (callbacks if isinstance(callbacks, list) else [callbacks])]
    if any(given):
        return [Path(folder) for folder in given if folder]
    loggers = trainer.get("logger")
    first = loggers[0] if isinstance(loggers, list) and loggers else loggers
    root = trainer.get("default_root_dir") or "."
    if not hasattr(first, "class_path"):  # true, false or nothing: Lightning's own logger, or none
        return [Path(root) / "lightning_logs", Path(root)]
    save_dir = _option(first, "save_dir") or _option(first, "dir") or root
    return [Path(save_dir) / (wandb_project(first) or _option(first, "name") or "")]


def last_checkpoint(folders: Sequence[Path]) -> Path:
    """Find the newest `last.ckpt` in `folders`, in their `checkpoints` or in those of a run below them.

    Raises:
        ModelError: if there is none.
    """
    found = _newest(folders, "last*.ckpt")
    if not found:
        raise ModelError(
            f"--ckpt_path last: no last.ckpt below {' or '.join(map(str, folders))}; start without it, and have "
            "ModelCheckpoint write one (save_last: true)"
        )
    return found[0]


def open_checkpoint(path: Path, folders: Sequence[Path]) -> dict[str, Any]:
    """Read a checkpoint to resume.

    Raises:
        ModelError: as `read_checkpoint`; the message names the newest whole checkpoint beside it or in `folders`.
            If its settings name a class to import, as other LightningCLIs let them.
    """
    try:
        found = read_checkpoint(path)
    except ModelError as error:
        others = (other for other in _newest([path.parent, *folders], "*.ckpt") if other.resolve() != path.resolve())
        previous = next((other for other in others if _is_whole(other)), None)
        hint = "" if previous is None else f". The previous whole one: --ckpt_path {previous}"
        raise ModelError(f"{error}{hint}") from error
    settings = found.get("hyper_parameters", {})
    for name in ("_class_path", "_instantiator"):
        if name in settings and settings[name] not in _INSTANTIATORS:
            raise ModelError(
                f"{path}: its settings name {quoted(str(settings[name]))} as {name}, which train.py neither writes nor "
                "imports; if you know the file, start from its weights: --model.weights"
            )
    return found


def _newest(folders: Sequence[Path], name: str) -> list[Path]:
    patterns = (name, f"checkpoints/{name}", f"*/checkpoints/{name}")
    found = {path for folder in folders for pattern in patterns for path in folder.glob(pattern)}
    return sorted(found, key=_age, reverse=True)


def _age(path: Path) -> tuple[int, int]:
    """Return a key that is larger for newer files: a run's number counts before its time, because clocks jump."""
    run = re.fullmatch(r"version_(\d+)", path.parent.parent.name)
    return int(run[1]) if run else -1, path.stat().st_mtime_ns


def _is_whole(path: Path) -> bool:
    try:
        return "state_dict" in read_checkpoint(path)
    except ModelError:
        return False


def _option(configured: Any, name: str) -> Any:
    """Return an argument of a class in a parsed configuration; None if there is none of that name."""
    arguments = getattr(configured, "init_args", None)
    return None if arguments is None else arguments.get(name)
