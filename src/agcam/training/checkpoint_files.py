"""Find and open the checkpoint to resume: `--ckpt_path last`, or the newest whole one beside a broken one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agcam.errors import ModelError
from agcam.io.text import quoted
from agcam.tracking import wandb_project
from agcam.training.weights import check_class, read_checkpoint

_INSTANTIATORS = ("lightning.pytorch.cli.instantiate_module", "pytorch_lightning.cli.instantiate_module")
"""What Lightning notes in its own checkpoints."""


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


def open_checkpoint(path: Path, folders: Sequence[Path], expected: str) -> dict[str, Any]:
    """Read a checkpoint to resume by a model of class `expected`.

    Raises:
        ModelError: as `read_checkpoint`; if a whole one lies beside it or in `folders`, the message names the newest.
            If its model is of another class, or its settings name an instantiator of somebody's.
    """
    try:
        found = read_checkpoint(path)
    except ModelError as error:
        others = (other for other in _newest([path.parent, *folders], "*.ckpt") if other.resolve() != path.resolve())
        previous = next((other for other in others if _is_whole(other)), None)
        hint = "" if previous is None else f". The previous whole one: --ckpt_path {previous}"
        raise ModelError(f"{error}{hint}") from error
    check_class(found, expected, path)
    instantiator = found.get("hyper_parameters", {}).get("_instantiator", _INSTANTIATORS[0])
    if instantiator not in _INSTANTIATORS:
        raise ModelError(
            f"{path}: its settings name {quoted(str(instantiator))} as _instantiator, which agcam neither writes "
            "nor imports; if you know the file, start from its weights: --model.weights"
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
