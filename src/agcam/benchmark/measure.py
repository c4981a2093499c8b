"""Measure one batch: every method explains it, every metric scores the heatmaps."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agcam.benchmark.methods import Method
from agcam.benchmark.shard import Shard
from agcam.data.batch import Batch
from agcam.data.ground_truth import Pairs, box_truth, labeled_targets, mask_truth
from agcam.errors import AgcamError
from agcam.evaluating import evaluating
from agcam.explainers.explain import explain, explain_recording
from agcam.explainers.explanation import Explanation
from agcam.explainers.lean_forward import LeanModel, Precision, record_lean
from agcam.explainers.recording import Recording
from agcam.explainers.registry import find_method
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.spec import MetricSpec


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured on every batch.

    Attributes:
        methods: the rows of the table.
        metrics: its columns.
        against_masks: whether overlaps and pointing are scored against masks instead of boxes.
        batch_size: images in a forward pass.
        save_heatmaps: whether to keep all heatmaps.
        perturbed_precision: of the forwards on perturbed images.
    """

    methods: tuple[Method, ...]
    metrics: tuple[MetricSpec, ...]
    against_masks: bool
    batch_size: int
    save_heatmaps: bool = False
    perturbed_precision: Precision = "fp32"


def measure(
    model: nn.Module, multilabel: bool, batch: Batch, config: BenchmarkConfig, shown: Collection[int] = ()
) -> Shard:
    """Explain one batch by every method and score the heatmaps of every present class.

    Args:
        model: gives logits (n, C).
        multilabel: whether probabilities are a sigmoid for each class instead of a softmax.
        batch: on the model's device.
        config: what is measured.
        shown: positions in the data set of the images whose heatmaps are kept, to be shown.
    """
    found = Shard()
    with evaluating(model), torch.inference_mode():
        seconds, logits = _timed(lambda: model(batch.image).float())
    found.seconds[""] = np.array([seconds / len(batch)])
    targets, pairs = labeled_targets(batch)
    inputs = _inputs(model, multilabel, batch, pairs, logits.argmax(1), config)
    _note_images(found, batch, pairs, logits, multilabel)
    found.shown = np.flatnonzero(np.isin(found.pairs["index"], list(shown)))
    explained = Explaining(model, batch.image, targets)
    for method in config.methods:
        try:
            seconds, explanation = explained(method)
            maps = explanation.placed[pairs.image, pairs.slot]
            finite = torch.isfinite(maps).flatten(1).all(1)
            kept = torch.nonzero(finite)[:, 0]
            mine = replace(inputs, heatmaps=maps, explain=partial(_explain, method)).keep(kept)
            rows = {spec.name: spec.measure(mine) for spec in config.metrics} if len(kept) else {}
        except AgcamError as error:
            found.failed[method.label] = str(error)
            continue
        found.seconds[method.label] = np.array([seconds / len(batch)])
        found.broken[method.label] = ~finite.cpu().numpy()
        found.rows[method.label] = {
            name: _all_rows(known.cpu().numpy(), kept.cpu().numpy(), len(maps))
            for name, known in rows.items()
            if known is not None
        }
        found.maps[method.label] = maps[found.shown].float().cpu().numpy()
        if config.save_heatmaps:
            found.heatmaps[method.label] = explanation.heatmaps[pairs.image, pairs.slot].cpu()
    return found


class Explaining:
    """Explains one batch by one method after the other; those that work from a recording share one forward."""

    def __init__(self, model: nn.Module, images: Tensor, targets: Tensor) -> None:
        self.model, self.images, self.targets = model, images, targets
        self._recorded: tuple[float, Recording] | None = None

    def __call__(self, method: Method) -> tuple[float, Explanation]:
        """Return what the method would take alone, in seconds, and its explanation."""
        if find_method(method.name).needs == "forward":
            run = partial(explain, self.model, self.images, self.targets, method.name, **method.options)
            return _timed(run)
        with evaluating(self.model):
            if self._recorded is None:
                self._recorded = _timed(partial(record_lean, self.model, self.images))
            recording_took, recording = self._recorded
            run = partial(explain_recording, recording, self.targets, method.name, **method.options)
            took, explanation = _timed(run)
        return recording_took + took, explanation


def _inputs(
    model: nn.Module, multilabel: bool, batch: Batch, pairs: Pairs, first: Tensor, config: BenchmarkConfig
) -> MetricInputs:
    """Collect the inputs of the metrics, except the heatmaps."""
    boxes, _ = box_truth(batch, pairs)
    masks, ignore, _ = mask_truth(batch, pairs)
    count = torch.bincount(pairs.image, minlength=len(batch))
    return MetricInputs(
        model=model,
        images=batch.image[pairs.image],
        heatmaps=torch.empty(0),
        targets=pairs.object,
        correct=first[pairs.image] == pairs.object,
        alone=count[pairs.image] == 1,
        boxes=boxes,
        masks=None if batch.mask is None else masks,
        ignore=None if batch.mask is None else ignore,
        against_masks=config.against_masks,
        multilabel=multilabel,
        batch_size=config.batch_size,
        scorer=LeanModel(model, config.perturbed_precision),
    )


def _note_images(found: Shard, batch: Batch, pairs: Pairs, logits: Tensor, multilabel: bool) -> None:
    first = logits.argmax(1)
    right = [bool((classes == choice).any()) for classes, choice in zip(batch.present(), first, strict=True)]
    found.images = {"index": batch.index.cpu().numpy(), "correct": np.array(right)}
    probabilities = logits.sigmoid() if multilabel else logits.softmax(1)
    image = pairs.image
    found.pairs = {
        "index": batch.index.to(image.device)[image].cpu().numpy(),
        "target": pairs.object.cpu().numpy(),
        "correct": (first[image] == pairs.object).cpu().numpy(),
        "predicted": first[image].cpu().numpy(),
        "probability": probabilities[image, pairs.object].cpu().numpy(),
        "name": np.array([batch.name[row] for row in image.tolist()], dtype=np.str_),
    }


def _explain(method: Method, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return explain(model, images, targets, method.name, **method.options).placed[:, 0]


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def _all_rows(rows: np.ndarray, kept: np.ndarray, count: int) -> np.ndarray:
    """Put the rows of the `kept` pairs among those of all `count` pairs; NaN elsewhere."""
    all_rows = np.full((count, rows.shape[1]), np.nan, dtype=np.float32)
    all_rows[kept] = rows
    return all_rows
