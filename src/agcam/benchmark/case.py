"""What a metric may look at: explained pairs of a batch, with what is known of their objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """P pairs of an image and a class whose object is known, with one method's heatmaps.

    Attributes:
        model: gives logits (n, C).
        images: (P, 3, H, W), normalised.
        heatmaps: (P, h, w), finite.
        targets: (P,) int64.
        correct: (P,) bool, whether the model's first choice is the class.
        alone: (P,) bool, whether the image shows this class only.
        boxes: per pair (n, 4) xyxy of the class; n = 0 where none is known.
        masks: (P, H, W) bool, the pixels of the class, or None if the data have no masks.
        ignore: (P, H, W) bool, or None.
        masked: (P,) bool, for which pairs `masks` shows an object.
        against_masks: whether overlaps and pointing are scored against masks instead of boxes.
        multilabel: whether probabilities are a sigmoid for each class.
        explain: heatmaps (n, h, w) of the same method by another model, for images (n, 3, H, W) and targets (n,).
        batch_size: images a forward.
    """

    model: nn.Module
    images: Tensor
    heatmaps: Tensor
    targets: Tensor
    correct: Tensor
    alone: Tensor
    boxes: list[Tensor]
    masks: Tensor | None
    ignore: Tensor | None
    masked: Tensor
    against_masks: bool
    multilabel: bool
    explain: Callable[[nn.Module, Tensor, Tensor], Tensor]
    batch_size: int

    def keep(self, rows: Tensor) -> Case:
        """The pairs of the given rows (n,) int64."""
        return replace(
            self,
            images=self.images[rows],
            heatmaps=self.heatmaps[rows],
            targets=self.targets[rows],
            correct=self.correct[rows],
            alone=self.alone[rows],
            boxes=[self.boxes[row] for row in rows.tolist()],
            masks=None if self.masks is None else self.masks[rows],
            ignore=None if self.ignore is None else self.ignore[rows],
            masked=self.masked[rows],
        )

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return int(self.images.shape[-2]), int(self.images.shape[-1])

    @property
    def boxed(self) -> Tensor:
        """(P,) bool, for which pairs a box is known."""
        return torch.tensor([len(b) > 0 for b in self.boxes], dtype=torch.bool, device=self.targets.device)
