"""GT-known Loc and Top-1 Loc: box accuracy at a threshold that was fixed beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from agcam.errors import InputError
from agcam.metrics.checks import check_flags
from agcam.metrics.localization.max_box_acc import GT_KNOWN_LOC, TOP1_LOC, best_ious
from agcam.metrics.means import RowMeans
from agcam.metrics.spec import Value, column


def box_hits(
    heatmaps: Tensor, boxes: Sequence[Tensor], image_size: tuple[int, int], threshold: float = 0.5, iou: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Return whether the box around the largest contour matches one of the object's boxes.

    Args:
        heatmaps: (B, h, w), any units, explaining the ground-truth class.
        boxes: per image (n, 4) xyxy in pixels of the image.
        image_size: (H, W).
        threshold: in [0, 1), on the heatmap scaled to [0, 1].
        iou: in (0, 1], the least IoU of a hit.

    Returns:
        On the CPU (B,) bool hits, and (B,) bool: which images have a box at all; the others are excluded.
    """
    ious, counted = best_ious(heatmaps, boxes, image_size, torch.tensor([threshold]), largest=True)
    return ious[:, 0] >= iou, counted


class _FixedBoxAccuracy(RowMeans):
    def __init__(self, value: Value, threshold: float, iou: float, **kwargs: Any) -> None:
        super().__init__(1, [replace(value, of_mean=column(0))], **kwargs)
        if not 0 <= threshold < 1:
            raise InputError(f"threshold must be in [0, 1), found {threshold}")
        if not 0 < iou <= 1:
            raise InputError(f"iou must be in (0, 1], found {iou}")
        self.threshold = threshold
        self.iou = iou


class GTKnownLoc(_FixedBoxAccuracy):
    """Share of images, in [0, 1], whose largest contour's box has IoU >= 0.5 with an object's box.

    The class is given (heatmaps explain the ground-truth class), so the classifier's mistakes do not count.
    Images without a box are excluded. Per-image hits: `box_hits`.

    Args:
        threshold: in [0, 1), on the heatmap scaled to [0, 1].
        iou: in (0, 1].

    Examples:
        >>> metric = GTKnownLoc()
        >>> metric.update(heatmaps, boxes, image_size=(224, 224))
        >>> metric.compute()["gt_known_loc"]
    """

    def __init__(self, threshold: float = 0.5, iou: float = 0.5, **kwargs: Any) -> None:
        super().__init__(GT_KNOWN_LOC, threshold, iou, **kwargs)

    def update(self, heatmaps: Tensor, boxes: Sequence[Tensor], image_size: tuple[int, int]) -> None:
        """Score heatmaps (B, h, w) against per-image boxes (n, 4) xyxy in pixels of the image (H, W)."""
        hits, counted = box_hits(heatmaps, boxes, image_size, self.threshold, self.iou)
        self.add(hits[:, None], counted)


class Top1Loc(_FixedBoxAccuracy):
    """GT-known Loc that also requires the top-1 class to be right. Arguments as in `GTKnownLoc`."""

    def __init__(self, threshold: float = 0.5, iou: float = 0.5, **kwargs: Any) -> None:
        super().__init__(TOP1_LOC, threshold, iou, **kwargs)

    def update(self, heatmaps: Tensor, boxes: Sequence[Tensor], image_size: tuple[int, int], correct: Tensor) -> None:
        """Score a batch as `GTKnownLoc.update`; `correct` (B,) bool: is the top-1 class the ground truth?"""
        check_flags("correct", correct, len(heatmaps))
        hits, counted = box_hits(heatmaps, boxes, image_size, self.threshold, self.iou)
        self.add((hits & correct.to(hits.device))[:, None], counted)
