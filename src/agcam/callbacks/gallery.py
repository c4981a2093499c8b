"""Collect the gallery: the same few explained images every epoch, with labels, ground truth and metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from agcam.callbacks.other_class import Others
from agcam.data.batch import Batch
from agcam.data.ground_truth import Pairs, box_truth, mask_truth
from agcam.explainers.explanation import Explanation
from agcam.explainers.model_info import ModelInfo
from agcam.io.explained_images import ExplainedImage, OtherClass, false_alarms
from agcam.visualization.pixels import to_pixels

_T = TypeVar("_T")


def evenly_spaced(count: int, wanted: int) -> set[int]:
    """Return `wanted` evenly spaced positions of range(count); all of them if there are not more."""
    wanted = min(count, wanted)
    return {i * count // wanted for i in range(wanted)}


def explained_images(length: float, batches: float, batch_size: int, world_size: int) -> float:
    """Count the images that the first `batches` batches of every process cover; infinite where nobody knows."""
    return length if math.isinf(batches) else min(length, int(batches) * batch_size * world_size)


def show(
    info: ModelInfo,
    batch: Batch,
    pairs: Pairs,
    explanations: Mapping[str, Explanation],
    figures: Mapping[str, list[dict[str, float]]],
    others: Others,
) -> list[ExplainedImage]:
    """Collect what is shown of each pair (P) of a batch: image, names, truth, heatmaps, values.

    Args:
        info: names of the classes, normalization, and how logits become probabilities.
        batch: images, labels and ground truth.
        pairs: the pairs to show.
        explanations: of the batch, by method; at least one.
        figures: values by name, for each method and pair.
        others: of the batch; those of the shown images are explained.

    Returns:
        One for each pair, in their order.
    """
    first = next(iter(explanations.values()))
    placed = {method: explanation.placed for method, explanation in explanations.items()}
    others_placed = {method: explanation.placed for method, explanation in others.explanations.items()}
    probabilities = info.probabilities(first.logits.float()).cpu()
    predicted, present = first.logits.argmax(1).tolist(), batch.present()
    multilabel = batch.label.dim() == 2
    boxes, _ = box_truth(batch, pairs)
    masks, _, has_mask = mask_truth(batch, pairs)
    pixels = to_pixels(batch.image[pairs.image], info.mean, info.std)
    found = []
    for number, (row, slot) in enumerate(zip(pairs.image.tolist(), pairs.slot.tolist(), strict=True)):
        explained, shares, other, place = int(first.targets[row, slot]), probabilities[row], None, others.place[row]
        if place >= 0:
            mistaken = int(others.classes[row])
            maps = {method: _array(e[place, 0]) for method, e in others_placed.items()}
            other = OtherClass(info.class_name(mistaken), float(shares[mistaken]), maps)
        found.append(
            ExplainedImage(
                index=int(batch.index[row]),
                name=batch.name[row],
                image=pixels[number],
                explained=info.class_name(explained),
                truth=tuple(info.class_name(c) for c in present[row].tolist()),
                predicted=info.class_name(predicted[row]),
                probability=float(shares[explained]),
                boxes=_array(boxes[number]),
                mask=_array(masks[number]) if bool(has_mask[number]) else None,
                heatmaps={method: _array(e[row, slot]) for method, e in placed.items()},
                figures={method: figures[method][number] for method in explanations},
                other=other,
                shares=tuple(float(shares[c]) for c in present[row].tolist()),
                also=false_alarms(shares.tolist(), present[row].tolist(), info.class_name) if multilabel else (),
                multilabel=multilabel,
            )
        )
    return found


def gather(mine: list[_T]) -> list[_T]:
    """Return the entries of all processes, in the order of their ranks."""
    everyone = [mine]
    if dist.is_available() and dist.is_initialized():
        everyone = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(everyone, mine)
    return [entry for part in everyone for entry in part]


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to(torch.float32 if tensor.is_floating_point() else tensor.dtype).cpu().numpy()
