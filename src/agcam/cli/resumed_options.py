"""What holds where a checkpoint and the options beside `--ckpt_path` disagree.

An option that was not given keeps the checkpoint's value. One that was given, on the command line or in a
configuration, and differs from the checkpoint's, holds where that makes sense: learning rates, losses, averaging and so
on when a fit is resumed, the loss and test-time flip when a model is evaluated. Where it makes none it is refused by
name, or, if it is of training and the model is only evaluated, named in a warning.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from agcam.data.input_config import InputConfig
from agcam.errors import InputError, ModelError
from agcam.training.classifier import ViTClassifier

warn = rank_zero_only(logging.getLogger(__name__).warning)

_NETWORK = ("backbone", "image_size", "backbone_args", "class_names", "multilabel", "input")
_FROM_DATA = ("class_names", "multilabel", "input")  # null leaves them to the data
_BEGINNING = ("pretrained", "weights")
_RENAMED = ("ResumingCallback", "FiniteCallback", "Freezing")
"""Callbacks of earlier versions: now ExactResume, NonFiniteGuard, GradualUnfreezing."""
_EVALUATION = ("loss", "test_time_flip")


def model_beside(
    checkpoint: Mapping[str, Any],
    given: Mapping[str, Any],
    fitting: bool,
    path: Path,
    kind: type[ViTClassifier] = ViTClassifier,
) -> dict[str, Any]:
    """Return the arguments of a classifier that hold beside a checkpoint.

    Args:
        checkpoint: what it holds, from `read_checkpoint`.
        given: those arguments that somebody gave, defaults left out.
        fitting: whether training is resumed; else the model is validated or tested.
        path: of the checkpoint, for messages.
        kind: the class of the classifier.

    Raises:
        InputError: naming each given option that cannot hold, with both values and what to do.
        ModelError: if the checkpoint has settings that `kind` does not have.
    """
    signatures = [inspect.signature(c.__init__) for c in reversed(kind.__mro__) if issubclass(c, ViTClassifier)]
    parameters = [p for signature in signatures for p in signature.parameters.values() if p.name != "self"]
    defaults = {p.name: p.default for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    stored = {n: v for n, v in checkpoint.get("hyper_parameters", {}).items() if not n.startswith("_")}
    if unknown := sorted(stored.keys() - defaults.keys()):
        named = ", ".join(f"model.{name}" for name in unknown)
        raise ModelError(
            f"{path}: its settings are not those of this version's model (no {named}); "
            "resume with the version that wrote it, or start from its weights: --model.weights"
        )
    if stored.get("input"):
        InputConfig.from_dict(stored["input"])  # for its errors, while the file can still be named
    if not stored:  # weights alone: nothing contradicts what is given
        return dict(given)
    before = defaults | stored
    changed = {
        name: value
        for name, value in given.items()
        if value != before[name] and not (value is None and name in _FROM_DATA)
    }
    held = {name: value for name, value in changed.items() if name in _EVALUATION or _is_honored(name, fitting)}
    _refuse(changed, before, fitting, path)
    if idle := sorted(changed.keys() - held.keys()):
        warn("%s: no effect beside %s, which is only evaluated", _named(idle), path)
    if held:
        differences = ", ".join(f"model.{name} {value!r} (was {before[name]!r})" for name, value in held.items())
        warn("other than in %s: %s", path, differences)
    return stored | held


def check_callbacks(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Refuse to resume where states lie under names that callbacks no longer have: the run would not be the same.

    Raises:
        ModelError: naming them.
    """
    if old := [name for name in checkpoint.get("callbacks", {}) if name.partition("{")[0] in _RENAMED]:
        raise ModelError(
            f"{path}: an earlier version wrote it, whose states of {', '.join(old)} this one does not read; resume "
            f"with that version, or start a new run from its weights: --model.weights {path}"
        )


def check_seed(checkpoint: Mapping[str, Any], given: Any, path: Path) -> None:
    """Refuse a seed that a resumed run would not use: its order and random numbers are those it began with.

    Args:
        checkpoint: what it holds.
        given: the value of `--seed_everything`; True asks for any, None was not given.
        path: of the checkpoint.

    Raises:
        InputError: naming both seeds.
    """
    state = checkpoint.get("callbacks", {}).get("ExactResume")
    seed = state.get("seed") if isinstance(state, dict) else None
    if seed is not None and given is not None and not isinstance(given, bool) and given != seed:
        raise InputError(
            f"--seed_everything is {given}, the run of {path} has {seed} and resumes with it; leave the option out, or "
            f"start a new run from its weights: --model.weights {path}"
        )


def _is_honored(name: str, fitting: bool) -> bool:
    return fitting and name not in (*_NETWORK, *_BEGINNING)


def _refuse(changed: Mapping[str, Any], before: Mapping[str, Any], fitting: bool, path: Path) -> None:
    """Raise `InputError` if an option asks for what a checkpoint has settled."""
    other_net = [name for name in _NETWORK if name in changed]
    frozen = changed.get("freeze_epochs", before["freeze_epochs"]) < 0
    if fitting and frozen != (before["freeze_epochs"] < 0):  # the optimizer has states of other weights
        other_net.append("freeze_epochs")
    if other_net:
        said = ", ".join(f"--model.{name} is {changed[name]!r}, there {before[name]!r}" for name in other_net)
        raise InputError(
            f"{_named(other_net)}: settled by --ckpt_path {path} ({said}); leave out what differs, or start a new run "
            f"from its weights: --model.weights {path} instead of --ckpt_path"
        )
    if fitting and (beginning := [name for name in _BEGINNING if name in changed]):
        said = ", ".join(f"{changed[name]!r}, there {before[name]!r}" for name in beginning)
        raise InputError(
            f"{_named(beginning)} ({said}): no effect beside --ckpt_path {path}, whose weights replace all others; "
            "leave out one or the other"
        )


def _named(names: list[str]) -> str:
    return ", ".join(f"--model.{name}" for name in names)
