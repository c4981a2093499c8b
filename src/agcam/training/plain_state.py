"""Keep checkpoints to tensors and plain values, so that reading them runs no code."""

from __future__ import annotations

import copy
import io
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from agcam.errors import InputError

_READ = (type(None), bool, int, float, str, Tensor, nn.Parameter)
_NUMBERS = (bool, int, float, complex, str)


def plain(value: Any, path: tuple[str, ...] = ()) -> Any:
    """Return a state as a checkpoint holds it: NumPy's scalars as the Python numbers that they equal.

    Changed parts are copied; the state itself, which its owner may still use, and all tensors stay as they are.

    Args:
        value: a checkpoint, or part of one.
        path: names under which it lies in the checkpoint.

    Raises:
        InputError: naming the owner of the state and the key, if `torch.load(weights_only=True)` would not read it.
    """
    if type(value) in _READ:
        return value
    if isinstance(value, np.generic):
        number = value.item()
        if type(number) in _NUMBERS and (number == value or (number != number and value != value)):
            return number
    if type(value) in (dict, OrderedDict):
        items = {plain(key, (*path, repr(key))): plain(entry, (*path, str(key))) for key, entry in value.items()}
        if _same(items, value) and _same(items.values(), value.values()):
            return value
        changed = copy.copy(value)  # with what a state dict keeps beside its items
        changed.clear()
        changed.update(items)
        return changed
    if type(value) in (list, tuple):
        entries = [plain(entry, (*path, str(number))) for number, entry in enumerate(value)]
        return value if _same(entries, value) else type(value)(entries)
    if not _is_read(value):
        kind = type(value)
        raise InputError(
            f"{_owner(path)} is a {kind.__module__}.{kind.__qualname__}, which no checkpoint can hold: those are read "
            "without running code, so the run could not be resumed; make it numbers, texts, tensors, or lists and "
            "dicts of these"
        )
    return value


def check_states(trainer: L.Trainer, module: L.LightningModule) -> None:
    """Refuse a run whose first checkpoint could not be read again.

    The present hyperparameters and states of callbacks and data are checked.

    Raises:
        InputError: as `plain`.
    """
    data: L.LightningDataModule | None = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # as above
    plain({"callbacks": {callback.state_key: callback.state_dict() for callback in callbacks}})
    plain({"hyper_parameters": dict(module.hparams)})
    if data is not None:
        plain({data.CHECKPOINT_HYPER_PARAMS_KEY: dict(data.hparams), type(data).__qualname__: data.state_dict()})


def _same(some: Iterable[Any], others: Iterable[Any]) -> bool:
    return all(one is other for one, other in zip(some, others, strict=True))


def _is_read(value: Any) -> bool:
    """Ask torch, which knows some more types: sizes, devices, sets, other tensors."""
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # whatever stops the one or the other, and what a class of somebody's raises
        return False
    return True


def _owner(path: tuple[str, ...]) -> str:
    part, *names = path or ("what is saved",)
    if part == "callbacks" and len(names) > 1:
        return f"{names[0].partition('{')[0]}, a callback: {'.'.join(names[1:])} of its state"
    if part.endswith("hyper_parameters") and names:
        return f"the hyperparameter {'.'.join(names)}"
    return f"{'.'.join((part, *names))} of the checkpoint"
