"""MaxBoxAcc and MaxBoxAccV2 (Choe et al. 2020, arXiv 2001.07437): does the heatmap's box meet the object's?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from agcam.errors import InputError
from agcam.metrics.checks import check_boxes, check_heatmaps
from agcam.metrics.maps import contour_boxes, min_max, region_boxes, upsample

FIXED = 0.5


def threshold_grid(count: int) -> Tensor:
    """Thresholds 0, 1/count, … (count - 1)/count: (count,) float32.

    Raises:
        InputError: `count` is not a positive even number (0.5, the fixed threshold, must be among them).
    """
    if count < 2 or count % 2:
        raise InputError(f"thresholds must be a positive even number, so that 0.5 is one of them, found {count}")
    return torch.tensor([step / count for step in range(count)])


def best_ious(
    heatmaps: Tensor, boxes: Sequence[Tensor], image_size: tuple[int, int], thresholds: Tensor, largest: bool
) -> tuple[Tensor, Tensor]:
    """How well the best of the boxes around a thresholded heatmap meets the best of the object's boxes.

    A heatmap is upsampled to the image (bilinear), scaled to [0, 1] and kept where it is above each threshold; every
    connected region (8 neighbours) gives a box. Edges are those of the pixels (no off-by-one).

    Args:
        heatmaps: (B, h, w), any units.
        boxes: per image (n, 4) xyxy in pixels of the image.
        image_size: (H, W).
        thresholds: (T,) ascending, in [0, 1).
        largest: only the box of the contour that encloses the largest area counts.

    Returns:
        On the CPU, where contours are found: (B, T) float64, IoU in [0, 1], 0 where nothing is above the threshold (a
        constant map); and (B,) bool, which images have a box at all: the others are left out. `ious[counted] >= 0.5`
        are the per-image hits.

    Raises:
        InputError: shapes do not fit, or a heatmap is not finite.
    """
    check_heatmaps(heatmaps)
    truth = check_boxes(heatmaps, boxes, image_size)
    ious = torch.zeros(len(heatmaps), len(thresholds), dtype=torch.float64)
    counted = torch.tensor([len(entry) > 0 for entry in truth], dtype=torch.bool)
    if len(heatmaps):
        # the number of thresholds that a pixel passes: thresholds need sorting out only once, on the device
        levels = torch.bucketize(
            min_max(upsample(heatmaps, image_size)), thresholds.to(heatmaps.device), out_int32=True
        )
        for row in torch.nonzero(counted)[:, 0].tolist():
            level = levels[row].cpu().numpy()
            ious[row] = torch.from_numpy(_best_by_level(level, truth[row].numpy(), len(thresholds), largest))
    return ious, counted


def _best_by_level(level: np.ndarray, truth: np.ndarray, steps: int, largest: bool) -> np.ndarray:
    kept = (level > step for step in range(steps))
    found = [contour_boxes(binary, largest=True) if largest else region_boxes(binary) for binary in kept]
    step_of = np.repeat(np.arange(steps), [len(boxes) for boxes in found])
    best = np.zeros(steps)
    np.maximum.at(best, step_of, _iou(np.concatenate(found).astype(np.float64), truth).max(1))
    return best


def _iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    sides = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    common = sides.clip(min=0).prod(2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)[:, None] + (others[:, 2:] - others[:, :2]).prod(1)
    whole: np.ndarray = areas - common
    # a box around a contour has an area, so `whole` is never 0
    return np.asarray(common / whole)


class _BoxAccuracy(Metric):
    full_state_update = False
    hits: Tensor
    count: Tensor
    ious: tuple[float, ...]
    largest: bool

    def __init__(self, thresholds: int = 100, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.thresholds = threshold_grid(thresholds)
        self.add_state("hits", torch.zeros(len(self.ious), thresholds, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, heatmaps: Tensor, boxes: Sequence[Tensor], image_size: tuple[int, int]) -> None:
        """Score heatmaps (B, h, w) against per-image boxes (n, 4) xyxy in pixels of the image (H, W)."""
        ious, counted = best_ious(heatmaps, boxes, image_size, self.thresholds, self.largest)
        wanted = torch.tensor(self.ious, dtype=torch.float64)
        self.hits += (ious[counted][:, None] >= wanted[:, None]).sum(0).to(self.hits)
        self.count += counted.sum().to(self.count)

    def _accuracies(self) -> tuple[Tensor, Tensor, Tensor]:
        """For each IoU: the best accuracy, the threshold that gives it, the accuracy at threshold 0.5."""
        accuracy = self.hits / self.count
        best, place = accuracy.max(1)
        threshold = torch.where(self.count > 0, self.thresholds.to(best.device)[place], torch.nan)
        return best, threshold, accuracy[:, round(FIXED * len(self.thresholds))]


class MaxBoxAcc(_BoxAccuracy):
    """Share of images, in [0, 1], where the box around the largest contour meets an object's box with IoU >= 0.5.

    The threshold is the best one on the data set, so the figure flatters: it is chosen on the images that it is
    reported for. The accuracy at the fixed threshold 0.5 therefore stands beside it. Choe et al. 2020.

    Only counts over the thresholds are kept, whatever the number of images. Images without a box are left out. The
    per-image hits (B, T) are `best_ious(…, largest=True)[0] >= 0.5`; their mean over images is the accuracy curve.

    Args:
        thresholds: how many, an even number: 0, 1/thresholds, … on the heatmap scaled to [0, 1]. Each costs a
            contour search an image (0.1 ms at 224 × 224). The published code has 1000, over maps rounded to 256 levels.

    Example:
        >>> metric = MaxBoxAcc()
        >>> metric.update(explanation.heatmaps[:, 0], boxes, image_size=(224, 224))
        >>> metric.compute()["max_box_acc"]
    """

    ious = (0.5,)
    largest = True

    def compute(self) -> dict[str, Tensor]:
        """The figures; NaN where no image was scored.

        Returns:
            `max_box_acc` and the `threshold` it was reached at (the lowest of equals), `box_acc` at the fixed
            threshold 0.5, `count` of images.
        """
        best, threshold, fixed = self._accuracies()
        return {"max_box_acc": best[0], "threshold": threshold[0], "box_acc": fixed[0], "count": self.count}


class MaxBoxAccV2(_BoxAccuracy):
    """MaxBoxAcc over any region's box, averaged over the IoUs 0.3, 0.5 and 0.7, in [0, 1].

    A region in the hole of another counts; the contour of a hole does not (the published code's contour search
    returns it). The threshold is chosen for each IoU by itself, as published (Choe et al. 2020, extended version).
    Per-image hits are `best_ious(…, largest=False)[0] >= iou`. Otherwise as `MaxBoxAcc`.

    Args:
        thresholds: see `MaxBoxAcc`.
    """

    ious = (0.3, 0.5, 0.7)
    largest = False

    def compute(self) -> dict[str, Tensor]:
        """The figures; NaN where no image was scored.

        Returns:
            `max_box_acc_v2`, its three parts `max_box_acc` (3,) and `threshold` (3,) for IoU 0.3, 0.5, 0.7, the
            same mean `box_acc_v2` at the fixed threshold 0.5, `count` of images.
        """
        best, threshold, fixed = self._accuracies()
        return {
            "max_box_acc_v2": best.mean(),
            "max_box_acc": best,
            "threshold": threshold,
            "box_acc_v2": fixed.mean(),
            "count": self.count,
        }
