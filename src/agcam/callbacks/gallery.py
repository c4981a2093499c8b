"""The gallery: the same few images, shown with their heatmaps every time."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor

from agcam.callbacks.ground_truth import Pairs
from agcam.classifier import ViTClassifier
from agcam.data.batch import Batch
from agcam.data.transforms import to_pixels
from agcam.explainers.explain import Explanation
from agcam.tracking import Picture


def spread(count: int, wanted: int) -> set[int]:
    """`wanted` positions spread evenly over range(count); all of them if there are not more."""
    wanted = min(count, wanted)
    return {i * count // wanted for i in range(wanted)}


def explained_images(length: int, batches: float, batch_size: int, world_size: int) -> int:
    """How many images of a data set the first `batches` batches of every process cover."""
    return length if math.isinf(batches) else min(length, int(batches) * batch_size * world_size)


def pictures(model: ViTClassifier, batch: Batch, pairs: Pairs, explanation: Explanation, iou: Tensor) -> list[Picture]:
    """The pictures of the pairs (P) of a batch; `iou` (P,)."""
    found = []
    names = model.class_names
    probabilities = model.probabilities(explanation.logits.float()).cpu()
    first = explanation.logits.argmax(1).tolist()
    present = batch.present()
    for row, slot, wanted, overlap in zip(
        *(t.tolist() for t in (pairs.image, pairs.slot, pairs.object, iou)), strict=True
    ):
        explained = int(explanation.targets[row, slot])
        boxes, labels = batch.boxes[row], batch.box_labels[row]
        shown = torch.zeros(0, 4) if boxes is None or labels is None else boxes[labels == wanted]
        found.append(
            Picture(
                index=int(batch.index[row]),
                name=batch.name[row],
                image=to_pixels(batch.image[row], model.input_config),
                heatmap=explanation.heatmaps[row, slot].cpu().numpy(),
                explained=names[explained],
                truth=tuple(names[c] for c in present[row].tolist()),
                predicted=names[first[row]],
                probability=float(probabilities[row, explained]),
                iou=overlap,
                boxes=shown.cpu().numpy(),
            )
        )
    return found


def gather(mine: list[Picture]) -> list[Picture]:
    """The pictures of all processes, in the order of the data set."""
    everyone = [mine]
    if dist.is_available() and dist.is_initialized():
        everyone = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(everyone, mine)
    return sorted((p for part in everyone for p in part), key=lambda p: p.index)
