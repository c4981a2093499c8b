"""Classify and explain one batch of images, as every way of explaining files does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agcam.errors import InputError
from agcam.evaluating import evaluating
from agcam.explainers.explain import check_image_batch, explain, explain_recording
from agcam.explainers.explanation import Explanation
from agcam.explainers.lean_forward import Precision, record_lean
from agcam.explainers.registry import find_method
from agcam.training.loaded import LoadedModel


@dataclass(frozen=True)
class Request:
    """What to explain of an image, and how.

    Attributes:
        method: one of `agcam.methods()`, or "my_package.module:function".
        options: of the method.
        top: how many of the most probable classes are explained.
        targets: indices of the classes that are explained instead.
        precision: of the forward that is recorded; what follows is float32.
    """

    method: str
    options: Mapping[str, Any]
    top: int
    targets: Sequence[int] = ()
    precision: Precision = "fp32"


def find_classes(names: Sequence[str], class_names: list[str]) -> list[int]:
    """Return the class indices of names; case does not matter.

    Raises:
        InputError: for an unknown name, with the names that resemble it.
    """
    index = {name.casefold(): i for i, name in reversed(list(enumerate(class_names)))}
    for name in names:
        if name.casefold() not in index:
            close = [c for c in class_names if name.casefold() in c.casefold()] or class_names
            more = f", … ({len(class_names)} classes)" if len(close) > 8 else ""
            raise InputError(f"unknown class {name!r}; the model has {', '.join(close[:8])}{more}")
    return [index[name.casefold()] for name in names]


def explain_batch(subject: LoadedModel, images: Tensor, request: Request) -> Explanation:
    """Explain images (B, 3, S, S) on the model's device: the classes that are asked for, or the most probable."""
    check_image_batch(images)
    given = torch.tensor(request.targets, dtype=torch.int64).expand(len(images), -1)
    top = min(request.top, len(subject.class_names))
    half = torch.autocast(images.device.type, torch.bfloat16, enabled=request.precision == "bf16")
    with evaluating(subject.model), half:
        if find_method(request.method, request.options).needs == "recording":
            recording = record_lean(subject.model, images)
            targets = given if request.targets else recording.logits.topk(top, dim=1).indices
            return explain_recording(recording, targets, request.method, **request.options)
        if not request.targets:
            with torch.no_grad():
                given = subject.model(images).topk(top, dim=1).indices
        return explain(subject.model, images, given, request.method, **request.options)


def probabilities(subject: LoadedModel, logits: Tensor) -> Tensor:
    """Return the probability (B, C) float32 of each class, on the CPU."""
    logits = logits.float()
    return (logits.sigmoid() if subject.multilabel else logits.softmax(1)).cpu()
