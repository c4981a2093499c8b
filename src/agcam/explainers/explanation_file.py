"""Explanations on disk: the tensors as safetensors, everything else as JSON in the file's metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from agcam.errors import DataError, InputError, brief
from agcam.io.atomic import cannot_write, whole_file
from agcam.io.json import from_json, to_json

_KEY = "agcam_explanation"
_EXPECTED = "expected a file that Explanation.save wrote"
TENSORS = ("logits", "targets", "heatmaps")


@dataclass(frozen=True)
class Description:
    """What an explanation holds beside its tensors, as JSON can hold it; the names are those of its attributes."""

    method: str
    scored: bool
    image_size: list[int] | None
    extent: list[int] | None
    class_names: list[str]
    mean: list[float] | None
    std: list[float] | None
    multilabel: bool
    knows_multilabel: bool


def write_explanation(path: Path, tensors: dict[str, Tensor], description: Description) -> None:
    """Write the file of an explanation, which appears only when whole.

    Args:
        path: the file.
        tensors: by the names in `TENSORS`.
        description: the rest.

    Raises:
        OutputError: if it cannot be written.
    """
    # expanded tensors and those of one storage are written apart: the format knows neither
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    with whole_file(path) as part:
        try:
            safetensors.torch.save_file(plain, part, {_KEY: json.dumps(to_json(description))})
        except safetensors.SafetensorError as error:  # how it tells what the operating system says
            raise cannot_write(path, error) from error


def read_explanation(path: Path, device: str | torch.device) -> tuple[dict[str, Tensor], Description]:
    """Read what `write_explanation` wrote.

    Raises:
        DataError: if there is no such file, or it is another one.
        InputError: if tensors cannot be put on the device.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            said = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in TENSORS} if said is not None else {}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:  # its reader raises whatever a broken file makes it stumble over
        raise DataError(f"{path}: not a whole safetensors file ({brief(error)}); {_EXPECTED}") from error
    if said is None:
        raise DataError(f"{path}: a safetensors file without an explanation in it; {_EXPECTED}")
    try:
        description: Description = from_json(Description, json.loads(said))
        _check(tensors)
    except ValueError as error:
        raise DataError(f"{path}: an explanation that contradicts itself ({brief(error)}); {_EXPECTED}") from error
    try:
        return {name: tensor.to(device) for name, tensor in tensors.items()}, description
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device}: {str(error).splitlines()[0]}") from error


def _check(tensors: dict[str, Tensor]) -> None:
    logits, targets, heatmaps = (tensors[name] for name in TENSORS)
    shapes = ", ".join(f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in tensors.items())
    fits = logits.dim() == 2 and heatmaps.dim() == 4 and heatmaps.shape[:2] == targets.shape
    if not fits or len(logits) != len(targets) or targets.dtype != torch.int64 or not heatmaps.is_floating_point():
        raise ValueError(f"found {shapes}")
