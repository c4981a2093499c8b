"""Read weights and checkpoints without executing anything in them."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from agcam.errors import ModelError, brief
from agcam.io.archives import refuse_bomb
from agcam.io.text import quoted
from agcam.training.foreign_classes import foreign_classes, how_to_convert
from agcam.training.weight_names import backbone_weights, first_names

log = logging.getLogger(__name__)
_BLOCK = re.compile(r"blocks\.(\d{1,4})\.")
_HEADS = ("head.", "head_dist.", "fc.")
_PARTS = ("hyper_parameters", "state_dict", "callbacks")
_restored = ContextVar("weights are restored from a checkpoint", default=False)
MODEL_CLASS = "agcam_model_class"
"""Where a checkpoint of a subclass of `ViTClassifier` names it."""
_CLASSIFIER = "agcam.training.classifier.ViTClassifier"
MAX_SIZE = 8192
"""Checkpoints whose settings name a larger width or image size are refused: what they build must fit their weights."""


@contextmanager
def restored_later() -> Iterator[None]:
    """Skip the initial weights of models made within the block: a checkpoint fills them afterwards."""
    token = _restored.set(True)
    try:
        yield
    finally:
        _restored.reset(token)


def are_restored() -> bool:
    """Return whether the caller is inside `restored_later`."""
    return _restored.get()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a file written by `torch.save` as plain data.

    Raises:
        ModelError: if it is missing, truncated, no checkpoint, or holds anything but tensors and plain values.
    """
    found = _load(path, [])
    for part in _PARTS:  # of Lightning's checkpoints
        if not isinstance(found.get(part, {}), dict) or not all(isinstance(key, str) for key in found.get(part, ())):
            raise ModelError(f"{path}: its {part} have no names; expected a file that `agcam fit` or torch.save wrote")
    return found


def class_path(kind: type) -> str:
    """Return the name under which a class can be imported."""
    return f"{kind.__module__}.{kind.__qualname__}"


def check_class(checkpoint: dict[str, Any], expected: str, path: Path) -> None:
    """Refuse a checkpoint of another class of classifier: its weights may fit and its logits be others.

    Nothing is imported. Checkpoints that name no class are taken for `ViTClassifier`'s, as are all weights alone.

    Raises:
        ModelError: naming both classes.
    """
    settings = checkpoint.get("hyper_parameters", {})
    found = checkpoint.get(MODEL_CLASS) or settings.get("_class_path")
    if found is None and (not settings or expected == _CLASSIFIER):
        return
    if (found or _CLASSIFIER) != expected:
        named = quoted(str(found or _CLASSIFIER))
        raise ModelError(
            f"{path}: its model is of class {named}, expected {expected}, and a checkpoint's classes are "
            "never imported; if you know that class, give it to fit, validate and test as --model CLASS, or in Python "
            "call CLASS.from_checkpoint; or start from its weights: --model.weights"
        )


def read_settings(path: Path, expected: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the settings and the state dict of a classifier's checkpoint.

    Args:
        path: the checkpoint.
        expected: the class that is going to be made of it, as `class_path` names it.

    Raises:
        ModelError: as `read_checkpoint` and `check_class`; if it is no classifier's, or its settings ask for more than
            its weights fill.
    """
    found = read_checkpoint(path)
    check_class(found, expected, path)
    settings, state = found.get("hyper_parameters", {}), found.get("state_dict")
    names = settings.get("class_names")
    if not state or not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{path}: no class names and backbone in it; expected a checkpoint that `agcam fit` wrote")
    _check_weights(state, path)
    check_sizes(settings, len(state), path)
    return {name: value for name, value in settings.items() if not name.startswith("_")}, state


def check_sizes(settings: dict[str, Any], weights: int, path: Path) -> None:
    """Refuse a classifier's settings that ask for more than its weights can fill.

    Args:
        settings: arguments of `ViTClassifier`.
        weights: how many tensors there are.
        path: where the settings come from.

    Raises:
        ModelError: naming `path`.
    """
    args = settings.get("backbone_args")
    depth = args.get("depth") if isinstance(args, dict) else None
    sizes = _numbers([settings.get("image_size"), settings.get("input"), args])
    if max(sizes, default=0) > MAX_SIZE or (isinstance(depth, int) and depth > weights):
        raise ModelError(
            f"{path}: its settings ask for sizes above {MAX_SIZE}, or for more blocks than it has weights of"
        )


def read_weights(path: Path) -> dict[str, Any]:
    """Read a safetensors file, or one that `torch.save` wrote: tensors by name, or dictionaries of such.

    An `argparse.Namespace` is allowed: training scripts leave one in checkpoints, and it runs no code.

    Raises:
        ModelError: as `read_checkpoint`.
    """
    if path.suffix != ".safetensors":
        return _load(path, [argparse.Namespace])
    try:
        return dict(safetensors.torch.load_file(path))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such weights file") from None
    except Exception as error:  # as in `_load`; safetensors knows data types that torch does not
        raise ModelError(f"{path}: not a readable safetensors file ({brief(error)})") from error


def load_weights(backbone: nn.Module, path: Path, shallower: bool = False) -> None:
    """Load a weights file into a timm model.

    The file may hold them in dictionaries and under names with a prefix, as training scripts save them. Weights made
    for another image or patch size, or named as their authors name them, go through the filter with which
    timm loads its own pretrained weights: it resamples position and patch embeddings. A head that is
    missing or does not fit keeps its initial weights. The log reports both.

    Args:
        backbone: filled in place.
        path: the file.
        shallower: the model was given a depth: blocks of the file above its last one are left out, and the log says so.

    Raises:
        ModelError: if anything but the head is missing, unknown or of another shape; the message names it.
    """
    own = backbone.state_dict()
    heads = {key for key in own if key.startswith(_HEADS)}
    state = backbone_weights(read_weights(path), {k: v for k, v in own.items() if k not in heads}, path)
    if not state:
        raise ModelError(f"{path}: no weights found; expected a state dict of tensors")
    _check_weights(state, path)
    if shallower:
        state = _lower_blocks(state, own, path)
    names = set(state)
    misfit, unknown = _misfit(state, own)
    if (misfit - heads) | unknown:
        state = _resampled(state, backbone, path)
        misfit, unknown = _misfit(state, own)
    if bad := sorted((misfit - heads) | unknown):
        key = bad[0]
        have = tuple(state[key].shape) if key in state else "nothing"
        want = tuple(own[key].shape) if key in own else "no such weight"
        strange = "" if names & own.keys() else f" Its names begin with {first_names(names)}."
        raise ModelError(
            f"{path}: {len(bad)} weights do not fit {type(backbone).__name__}; {quoted(key)} is {have} in the file, "
            f"the model has {want}.{strange} Are model.backbone and model.image_size those that made the file?"
        )
    backbone.load_state_dict(
        {key: value for key, value in state.items() if key in own and key not in misfit}, strict=False
    )
    if misfit:
        log.warning("%s: the head (%s) does not fit and keeps its initial weights", path, ", ".join(sorted(misfit)))


def _load(path: Path, classes: list[Any]) -> dict[str, Any]:
    """Read the dictionary in a file that `torch.save` wrote, of tensors, plain values and `classes`."""
    try:
        _refuse_compressed(path)
        with torch.serialization.safe_globals(classes):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such checkpoint") from None
    except Exception as error:  # torch's reader raises whatever a broken file makes it stumble over
        allowed = frozenset(f"{known.__module__}.{known.__qualname__}" for known in classes)
        names = foreign_classes(path, error, allowed)
        if names:
            raise ModelError(
                f"{path}: not a whole checkpoint of tensors and plain values: {how_to_convert(path, names)}"
            ) from None
        raise ModelError(
            f"{path}: not a whole checkpoint of tensors and plain values ({brief(error)}); expected a file "
            "that `agcam fit` or torch.save wrote"
        ) from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: holds a {type(found).__name__}, expected a checkpoint or a state dict")
    return found


def _misfit(state: dict[str, Tensor], own: dict[str, Tensor]) -> tuple[set[str], set[str]]:
    """Name the model's weights that a state cannot fill, and those of the state that the model lacks."""
    misfit = {key for key in own if key not in state or state[key].shape != own[key].shape}
    return misfit, {key for key in state if key not in own and not key.startswith(_HEADS)}


def _lower_blocks(state: dict[str, Tensor], own: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Leave out the blocks above the model's last one: `blocks.N.…`, N from 0."""
    number = {key: int(found[1]) for key in {*state, *own} if (found := _BLOCK.match(key))}
    last = max((number[key] for key in own if key in number), default=-1)
    above = {number[key] for key in state if number.get(key, -1) > last}
    if last >= 0 and above:
        log.warning("%s: the model has %d blocks; the file's %d above them are left out", path, last + 1, len(above))
    return {key: value for key, value in state.items() if last < 0 or number.get(key, -1) <= last}


def _resampled(state: dict[str, Tensor], backbone: nn.Module, path: Path) -> dict[str, Tensor]:
    """Convert `state` as timm would to load it into `backbone`; unchanged if timm has no filter for it."""
    adapt = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    if adapt is None:
        return state
    try:
        adapted: dict[str, Tensor] = adapt(dict(state), backbone)
    except Exception as error:  # timm's filters expect weights of their own architecture and say nothing of others
        log.debug("%s: timm's filter for %s failed: %s", path, type(backbone).__name__, error)
        return state
    for key in adapted.keys() & state.keys():
        old, new = tuple(state[key].shape), tuple(adapted[key].shape)
        if old != new:
            log.warning("%s: %s resampled from %s to %s", path, key, old, new)
    return adapted


def _refuse_compressed(path: Path) -> None:
    """Refuse an archive that unpacks to more than its own size: `torch.save` compresses nothing, bombs do."""
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\3\4"
    if zipped:
        refuse_bomb(path, path.stat().st_size)


def _check_weights(state: dict[str, Any], path: Path) -> None:
    """Refuse what no model saves: values that are no tensors, or tensors larger than what the file stores of them."""
    for key, value in state.items():
        dense = isinstance(value, Tensor) and value.layout == torch.strided
        if not dense or value.is_quantized or value.is_meta or value.nbytes > value.untyped_storage().nbytes():
            raise ModelError(f"{path}: {str(key)[:100]!r} is no plain tensor; expected a state dict of tensors")


def _numbers(value: Any) -> Iterator[int]:
    """Yield all whole numbers in plain data."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)
