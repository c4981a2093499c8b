"""The inputs of a metric: explained pairs of an image and a class, with the boxes and masks of their objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from agcam.errors import InputError
from agcam.metrics.maps import fill_boxes


@dataclass(frozen=True)
class MetricInputs:
    """P pairs of an image and a class, with one method's heatmaps.

    Attributes:
        model: gives logits (n, C).
        images: (P, 3, H, W), normalized.
        heatmaps: (P, h, w), finite.
        targets: (P,) int64, the explained classes.
        correct: (P,) bool, whether the model's top-1 class is the explained one.
        alone: (P,) bool, whether the image shows this class only.
        boxes: per pair (n, 4) xyxy of the class, n = 0 where none is known; None if the data have no boxes.
        masks: (P, H, W) bool, the pixels of the class; None if the data have no masks.
        ignore: (P, H, W) bool, excluded pixels; with masks only.
        against_masks: whether a metric that takes boxes or masks is given masks.
        multilabel: whether probabilities are a sigmoid for each class instead of a softmax.
        explain: explains another model by the same method: from model, images (n, 3, H, W) and targets (n,) to heatmaps
            (n, h, w).
        batch_size: images in a forward pass.
        scorer: gives the logits of `model` at less cost, for metrics that run it often; None where there is none.
        shared: what one metric has computed of these pairs and another may use, by its type; `replace` drops it.
    """

    model: nn.Module
    images: Tensor
    heatmaps: Tensor
    targets: Tensor
    correct: Tensor
    alone: Tensor
    boxes: list[Tensor] | None = None
    masks: Tensor | None = None
    ignore: Tensor | None = None
    against_masks: bool = False
    multilabel: bool = False
    explain: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None
    batch_size: int = 32
    scorer: nn.Module | None = None
    shared: dict[type, Any] = field(default_factory=dict, init=False, repr=False)

    def keep(self, rows: Tensor) -> MetricInputs:
        """Return only the pairs at rows (n,) int64, copied; all of them share what was computed, others nothing."""
        kept = replace(
            self,
            images=self.images[rows],
            heatmaps=self.heatmaps[rows],
            targets=self.targets[rows],
            correct=self.correct[rows],
            alone=self.alone[rows],
            boxes=None if self.boxes is None else [self.boxes[row] for row in rows.tolist()],
            masks=None if self.masks is None else self.masks[rows],
            ignore=None if self.ignore is None else self.ignore[rows],
        )
        if torch.equal(rows, torch.arange(len(self.targets), device=rows.device)):
            vars(kept)["shared"] = self.shared
        return kept

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, (H, W)."""
        return int(self.images.shape[-2]), int(self.images.shape[-1])

    @property
    def boxed(self) -> Tensor:
        """Whether a box is known, for each pair, (P,) bool."""
        known = [len(boxes) > 0 for boxes in self.boxes] if self.boxes is not None else [False] * len(self.targets)
        return torch.tensor(known, dtype=torch.bool, device=self.targets.device)

    @property
    def masked(self) -> Tensor:
        """Whether the mask shows an object, for each pair, (P,) bool."""
        return torch.zeros_like(self.alone) if self.masks is None else self.masks.flatten(1).any(1)

    @property
    def known(self) -> Tensor:
        """Whether an object is known, for each pair, by mask or boxes as `against_masks` says, (P,) bool."""
        return self.masked if self.against_masks else self.boxed

    def ground_truth(self) -> tuple[list[Tensor] | None, Tensor | None, Tensor | None]:
        """Return what overlaps are scored against: (boxes, None, None) or (None, masks, ignored pixels)."""
        return (None, self.masks, self.ignore) if self.against_masks else (self.boxes, None, None)

    def object_masks(self) -> tuple[Tensor, Tensor | None]:
        """Return each object's pixels (P, H, W) bool, boxes filled, and ignored pixels (P, H, W) bool or None.

        Raises:
            InputError: if there are neither masks nor boxes.
        """
        boxes, masks, ignore = self.ground_truth()
        if masks is not None:
            return masks, ignore
        if boxes is None:
            raise InputError("no object is known: expected boxes, or masks with against_masks=True")
        filled = [torch.from_numpy(fill_boxes(entry.cpu(), self.size)) for entry in boxes]
        return torch.stack(filled).to(self.heatmaps.device), None
