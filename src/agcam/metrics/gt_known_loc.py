"""GT-known Loc and Top-1 Loc: box accuracy at a threshold that was fixed before looking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from agcam.errors import InputError
from agcam.metrics.checks import check_flags
from agcam.metrics.max_box_acc import best_ious


def box_hits(
    heatmaps: Tensor, boxes: Sequence[Tensor], image_size: tuple[int, int], threshold: float = 0.5, iou: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Whether the box around the largest contour meets one of the object's boxes.

    Args:
        heatmaps: (B, h, w), any units, explaining the ground-truth class.
        boxes: per image (n, 4) xyxy in pixels of the image.
        image_size: (H, W).
        threshold: in [0, 1), on the heatmap scaled to [0, 1].
        iou: in (0, 1], what a hit needs at least.

    Returns:
        On the CPU (B,) bool hits, and (B,) bool: which images have a box at all; the others are left out.
    """
    ious, counted = best_ious(heatmaps, boxes, image_size, torch.tensor([threshold]), largest=True)
    return ious[:, 0] >= iou, counted


class _FixedBoxAccuracy(Metric):
    full_state_update = False
    hits: Tensor
    count: Tensor

    def __init__(self, threshold: float = 0.5, iou: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= threshold < 1:
            raise InputError(f"threshold must be in [0, 1), found {threshold}")
        if not 0 < iou <= 1:
            raise InputError(f"iou must be in (0, 1], found {iou}")
        self.threshold = threshold
        self.iou = iou
        self.add_state("hits", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def _add(self, hits: Tensor, counted: Tensor) -> None:
        self.hits += (hits & counted).sum().to(self.hits)
        self.count += counted.sum().to(self.count)

    def _share(self) -> Tensor:
        return self.hits / self.count


class GTKnownLoc(_FixedBoxAccuracy):
    """Share of images, in [0, 1], whose largest contour's box has IoU >= 0.5 with an object's box.

    The class is given (heatmaps explain the ground-truth class), so the classifier's mistakes do not count.
    Images without a box are left out. Per-image hits: `box_hits`.

    Args:
        threshold: in [0, 1), on the heatmap scaled to [0, 1].
        iou: in (0, 1].

    Example:
        >>> metric = GTKnownLoc()
        >>> metric.update(heatmaps, boxes, image_size=(224, 224))
        >>> metric.compute()["gt_known_loc"]
    """

    def update(self, heatmaps: Tensor, boxes: Sequence[Tensor], image_size: tuple[int, int]) -> None:
        """Score heatmaps (B, h, w) against per-image boxes (n, 4) xyxy in pixels of the image (H, W)."""
        self._add(*box_hits(heatmaps, boxes, image_size, self.threshold, self.iou))

    def compute(self) -> dict[str, Tensor]:
        """`gt_known_loc` (NaN where no image was scored) and `count` of images."""
        return {"gt_known_loc": self._share(), "count": self.count}


class Top1Loc(_FixedBoxAccuracy):
    """GT-known Loc where, besides, the classifier's first choice must be right. Arguments as in `GTKnownLoc`."""

    def update(self, heatmaps: Tensor, boxes: Sequence[Tensor], image_size: tuple[int, int], correct: Tensor) -> None:
        """Score a batch as `GTKnownLoc.update`; `correct` (B,) bool: was the first choice the ground truth?"""
        check_flags("correct", correct, len(heatmaps))
        hits, counted = box_hits(heatmaps, boxes, image_size, self.threshold, self.iou)
        self._add(hits & correct.to(hits.device), counted)

    def compute(self) -> dict[str, Tensor]:
        """`top1_loc` (NaN where no image was scored) and `count` of images."""
        return {"top1_loc": self._share(), "count": self.count}
