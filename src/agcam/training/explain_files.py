"""Explain photographs on disk, in batches: `agcam.explain_files`, and what `agcam images` does before it draws."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from agcam.data.find_photographs import find_images
from agcam.data.photographs import Photograph, Unreadable, read_photographs
from agcam.errors import InputError
from agcam.explainers.explanation import Explanation
from agcam.explainers.find_vit import inspect_vit
from agcam.explainers.registry import find_method
from agcam.training.explain_batch import Request, explain_batch, find_classes, probabilities
from agcam.training.loaded import LoadedModel, choose_device, describe, load_trained

log = logging.getLogger(__name__)


def _no_maps() -> np.ndarray:
    return np.zeros((0, 0, 0), np.float32)


@dataclass(frozen=True, eq=False)
class ExplainedPhotograph:
    """What was found on a photograph.

    Attributes:
        path: of its file.
        targets: indices of the explained classes.
        classes: names of these.
        probabilities: of these.
        heatmaps: (T, h, w) float32 on the patch grid, in the method's own units.
        placed: the same as they cover what the model saw.
        predicted: name of the most probable class.
        error: why the file could not be read, in one line; everything else is empty then.
    """

    path: Path
    targets: Sequence[int] = ()
    classes: Sequence[str] = ()
    probabilities: Sequence[float] = ()
    heatmaps: np.ndarray = field(default_factory=_no_maps)
    placed: np.ndarray = field(default_factory=_no_maps)
    predicted: str = ""
    error: str = ""


def explain_files(
    model: str | Path | nn.Module | LoadedModel,
    paths: str | Path | Sequence[str | Path],
    targets: Sequence[str] = (),
    method: str = "agcam",
    *,
    top: int = 3,
    batch_size: int = 16,
    workers: int = 1,
    device: str | None = None,
    **options: Any,
) -> Iterator[ExplainedPhotograph]:
    """Explain photographs one after the other; nothing is written. The figures are those of `agcam images`.

    Examples:
        >>> for photo in agcam.explain_files(model, paths):  # or the path of a checkpoint, and of a folder
        ...     print(photo.path.name, photo.predicted, photo.probabilities)
        >>> next(agcam.explain_files(model, "a.png", method="rollout", head_fusion="max")).heatmaps.shape
        (3, 14, 14)

    Args:
        model: a checkpoint, or a folder that `agcam export` wrote; a `ViTClassifier`; a model of timm; or any module
            that `explain` takes and that knows its `class_names` and `input_config`.
        paths: files, and folders that are searched for photographs.
        targets: names of the classes to explain, instead of the most probable ones.
        method: as in `explain`.
        top: how many of the most probable classes to explain.
        batch_size: photographs in a batch.
        workers: threads that read; each may hold a photograph whole.
        device: for a checkpoint, such as "cpu"; a GPU where there is one if left out. Models stay where they are.
        options: of the method.

    Yields:
        One result a photograph, in order, as soon as its batch is explained. A file that cannot be read is logged as a
        warning, and its result has nothing but an `error`.

    Raises:
        DataError: for a path that does not exist, or if there is no photograph.
        InputError: for an unknown class, method or option, or a number that makes no sense.
        ModelError: for a checkpoint that cannot be opened, or a model that cannot be explained.
    """
    for name, value in (("top", top), ("batch_size", batch_size), ("workers", workers)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, found {value}")
    find_method(method, options)
    found = find_images([Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)])
    subject = _open(model, device)
    inspect_vit(subject.model)
    classes = find_classes([targets] if isinstance(targets, str) else targets, subject.class_names)
    request = Request(method, options, min(top, len(subject.class_names)), classes)

    def results() -> Iterator[ExplainedPhotograph]:
        for batch in explain_photographs(subject, found, request, batch_size, workers=workers):
            for item, result in batch:
                if isinstance(item, Unreadable):
                    log.warning("%s", item.error)
                yield result

    return results()


def explain_photographs(
    subject: LoadedModel,
    paths: Sequence[Path],
    request: Request,
    batch_size: int,
    max_side: int | None = None,
    workers: int = 1,
) -> Iterator[list[tuple[Photograph | Unreadable, ExplainedPhotograph]]]:
    """Yield the files of each batch, in order, with what was found on them.

    Args:
        subject: the model and what it needs.
        paths: image files.
        request: what is explained, and how.
        batch_size: files in a batch.
        max_side: longest side of the pictures that are kept for drawing; None keeps none.
        workers: threads that read.
    """
    device = next(subject.model.parameters()).device
    for group in read_photographs(paths, subject.input_config, batch_size, max_side, workers):
        photographs = [item for item in group if isinstance(item, Photograph)]
        found: Iterator[ExplainedPhotograph] = iter(())
        if photographs:
            images = torch.stack([photograph.image for photograph in photographs]).to(device)
            explanation = explain_batch(subject, images, request)
            found = iter(explained(subject, explanation, [photograph.path for photograph in photographs]))
        yield [
            (item, ExplainedPhotograph(item.path, error=item.error) if isinstance(item, Unreadable) else next(found))
            for item in group
        ]


def _open(model: str | Path | nn.Module | LoadedModel, device: str | None) -> LoadedModel:
    if not isinstance(model, str | Path):
        if device is not None:
            raise InputError(f"device={device!r} goes with a checkpoint; move the model yourself: model.to({device!r})")
        return describe(model)
    subject = load_trained(Path(model))
    subject.to(choose_device(device))
    return subject


def explained(subject: LoadedModel, explanation: Explanation, paths: Sequence[Path]) -> list[ExplainedPhotograph]:
    """Return what an explanation says of each of its images, whose files are named by `paths`."""
    shares = probabilities(subject, explanation.logits)
    heatmaps, placed = (maps.cpu().numpy() for maps in (explanation.heatmaps, explanation.placed))
    names = subject.class_names
    return [
        ExplainedPhotograph(
            path,
            targets,
            [names[target] for target in targets],
            shares[row, targets].tolist(),
            heatmaps[row],
            placed[row],
            names[int(shares[row].argmax())],
        )
        for row, (path, targets) in enumerate(zip(paths, explanation.targets.tolist(), strict=True))
    ]
