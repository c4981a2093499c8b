"""Reading weights and checkpoints without executing anything they hold."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from agcam.errors import ModelError

log = logging.getLogger(__name__)
_HEADS = ("head.", "head_dist.", "fc.")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A file written by `torch.save`, as plain data.

    Raises:
        ModelError: if it is missing, truncated, no checkpoint, or holds anything but tensors and plain values.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such checkpoint") from None
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise ModelError(
            f"{path}: not a whole checkpoint of tensors and plain values ({_first_sentence(error)}); expected a file "
            "that train.py or torch.save wrote"
        ) from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: holds a {type(found).__name__}, expected a checkpoint or a state dict")
    return found


def read_weights(path: Path) -> dict[str, Tensor]:
    """The backbone's state dict in a safetensors file, a `torch.save`d state dict or an agcam checkpoint.

    Raises:
        ModelError: as `read_checkpoint`, or if there are no tensors in it.
    """
    if path.suffix == ".safetensors":
        try:
            state = safetensors.torch.load_file(path)
        except FileNotFoundError:
            raise ModelError(f"{path}: no such weights file") from None
        except (OSError, safetensors.SafetensorError) as error:
            raise ModelError(f"{path}: not a readable safetensors file ({error})") from error
    else:
        found = read_checkpoint(path)
        found = next((found[key] for key in ("state_dict", "model") if isinstance(found.get(key), dict)), found)
        state = {key: value for key, value in found.items() if isinstance(value, Tensor)}
    for prefix in ("module.", "backbone."):
        if any(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if not state:
        raise ModelError(f"{path}: holds no weights; expected a state dict of tensors")
    return state


def load_weights(backbone: nn.Module, path: Path) -> None:
    """Load a weights file into a timm model. A missing or misfit head keeps its fresh weights, and the log says so.

    Raises:
        ModelError: if anything but the head is missing, unknown or of another shape; the message names it.
    """
    state = read_weights(path)
    own = backbone.state_dict()
    heads = {key for key in own if key.startswith(_HEADS)}
    misfit = {key for key in own if key not in state or state[key].shape != own[key].shape}
    unknown = {key for key in state if key not in own and not key.startswith(_HEADS)}
    if bad := sorted((misfit - heads) | unknown):
        key = bad[0]
        have = tuple(state[key].shape) if key in state else "nothing"
        want = tuple(own[key].shape) if key in own else "no such weight"
        raise ModelError(
            f"{path}: {len(bad)} weights do not fit {type(backbone).__name__}; {key!r} is {have} in the file, "
            f"the model has {want}. Are model.backbone and model.image_size those that made the file?"
        )
    backbone.load_state_dict(
        {key: value for key, value in state.items() if key in own and key not in misfit}, strict=False
    )
    if misfit:
        log.warning("%s: the head (%s) does not fit and was made anew", path, ", ".join(sorted(misfit)))


def _first_sentence(error: Exception) -> str:
    return str(error).split(". ")[0].splitlines()[0] if str(error) else type(error).__name__
