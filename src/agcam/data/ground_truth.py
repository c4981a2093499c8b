"""Choose the class to explain of each image, and find where its object is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agcam.data.batch import IGNORE, Batch


@dataclass(frozen=True)
class Pairs:
    """P explained (image, class) pairs of a batch.

    Attributes:
        image: (P,) int64, row of the batch.
        slot: (P,) int64, column of the targets (B, T) that were explained.
        object: (P,) int64, the class whose object the heatmap is scored against.
    """

    image: Tensor
    slot: Tensor
    object: Tensor

    def keep(self, chosen: Tensor) -> Pairs:
        """Keep the pairs where `chosen` (P,) bool is true."""
        return Pairs(self.image[chosen], self.slot[chosen], self.object[chosen])


def labeled_targets(batch: Batch) -> tuple[Tensor, Pairs]:
    """Choose the labels to explain, in multi-label data every present class: targets (B, T) and pairs.

    Rows with fewer classes are padded with class 0; no pair points at the padding.
    """
    if batch.label.dim() == 1:
        image = torch.arange(len(batch), device=batch.label.device)
        return batch.label.unsqueeze(1), Pairs(image, torch.zeros_like(image), batch.label)
    return padded_targets(batch.label != 0)


def padded_targets(wanted: Tensor) -> tuple[Tensor, Pairs]:
    """Return the wanted classes (B, C) bool as targets (B, T), padded with class 0, and a pair for each that is wanted.

    Each pair's object is the class that it explains.
    """
    image, chosen = torch.nonzero(wanted, as_tuple=True)
    slot = (wanted.cumsum(1) - 1)[image, chosen]
    count = max(1, int(wanted.sum(1).max()))
    targets = torch.zeros(len(wanted), count, dtype=torch.int64, device=wanted.device)
    targets[image, slot] = chosen
    return targets, Pairs(image, slot, chosen)


def predicted_targets(batch: Batch, first: Tensor) -> tuple[Tensor, Pairs]:
    """Choose each image's predicted class (B, 1) to explain: targets and pairs.

    In single-label data the heatmap is scored against the image's object, even if the prediction is wrong. In
    multi-label data an image whose predicted class is not present has no object to score against and gives no pair.
    """
    image = torch.arange(len(batch), device=first.device)
    if batch.label.dim() == 1:
        return first, Pairs(image, torch.zeros_like(image), batch.label)
    pairs = Pairs(image, torch.zeros_like(image), first[:, 0])
    return first, pairs.keep(batch.label.gather(1, first)[:, 0] > 0)


def other_classes(label: Tensor, first: Tensor, explains_first: bool = False) -> Tensor:
    """Return for each image the class (B,) beside the explained one that its mistake is about; -1 where it is right.

    Args:
        label: (B,) int64, or (B, C) multi-hot.
        first: (B,) int64, the predicted classes.
        explains_first: whether the heatmaps explain them; the other class is then the label, which is one only in
            single-label data.
    """
    if label.dim() == 2:
        return torch.where(label.gather(1, first[:, None])[:, 0] > 0, -1, first)
    return torch.where(first == label, -1, label if explains_first else first)


def box_truth(batch: Batch, pairs: Pairs) -> tuple[list[Tensor], Tensor]:
    """Return the boxes of each pair's object, and (P,) bool: which pairs have any."""
    boxes = []
    for image, wanted in zip(pairs.image.tolist(), pairs.object.tolist(), strict=True):
        known, labels = batch.boxes[image], batch.box_labels[image]
        boxes.append(torch.zeros(0, 4) if known is None or labels is None else known[labels == wanted])
    return boxes, torch.tensor([len(b) > 0 for b in boxes], dtype=torch.bool, device=pairs.image.device)


def mask_truth(batch: Batch, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Return (P, H, W) bool object pixels, (P, H, W) bool ignored pixels, (P,) bool: which pairs have an object."""
    if batch.mask is None:
        empty = torch.zeros((len(pairs.image), 1, 1), dtype=torch.bool, device=pairs.image.device)
        return empty, empty, empty[:, 0, 0]
    mask = batch.mask[pairs.image]
    truth = (mask == pairs.object[:, None, None] + 1) & (mask != IGNORE)
    return truth, mask == IGNORE, truth.flatten(1).any(1)
