"""MaxBoxAcc and MaxBoxAccV2 (Choe et al. 2020, arXiv 2001.07437): does the heatmap's box match the object's?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# torchvision ships no types
from torchvision.ops import box_iou  # type: ignore[import-untyped]

from agcam.errors import InputError
from agcam.metrics.checks import check_boxes, check_heatmaps
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.maps import contour_boxes, evidence, region_boxes, upsample
from agcam.metrics.means import RowMeans
from agcam.metrics.registry import register_metric
from agcam.metrics.spec import Curve, MetricSpec, Value, column, parts

FIXED = 0.5


def threshold_grid(count: int) -> Tensor:
    """Return the thresholds 0, 1/count, … (count - 1)/count: (count,) float32.

    Raises:
        InputError: if `count` is not a positive even number (0.5, the fixed threshold, must be among them).
    """
    if count < 2 or count % 2:
        raise InputError(f"thresholds must be a positive even number, so that 0.5 is one of them, found {count}")
    return torch.tensor([step / count for step in range(count)])


def best_ious(
    heatmaps: Tensor, boxes: Sequence[Tensor], image_size: tuple[int, int], thresholds: Tensor, largest: bool
) -> tuple[Tensor, Tensor]:
    """Return the best IoU of a box around a thresholded heatmap with a box of the object, for each threshold.

    A heatmap is upsampled to the image (bilinear), scaled to [0, 1] and kept where it is above each threshold; every
    connected region (8 neighbors) gives a box. Edges are those of the pixels (no off-by-one).

    Args:
        heatmaps: (B, h, w), any units.
        boxes: per image (n, 4) xyxy in pixels of the image.
        image_size: (H, W).
        thresholds: (T,) ascending, in [0, 1).
        largest: use only the box of the contour that encloses the largest area.

    Returns:
        On the CPU, where contours are found: (B, T) float64, IoU in [0, 1], 0 where nothing is above the threshold (a
        constant map); and (B,) bool, which images have a box at all; the others are excluded. `ious[counted] >= 0.5`
        are the per-image hits.

    Raises:
        InputError: if shapes do not match, or a heatmap is not finite.
    """
    check_heatmaps(heatmaps)
    truth = check_boxes(heatmaps, boxes, image_size)
    ious = torch.zeros(len(heatmaps), len(thresholds), dtype=torch.float64)
    counted = torch.tensor([len(entry) > 0 for entry in truth], dtype=torch.bool)
    if len(heatmaps):
        # the number of thresholds that a pixel passes: pixels are compared with thresholds once, on the device
        levels = torch.bucketize(
            evidence(upsample(heatmaps, image_size)), thresholds.to(heatmaps.device), out_int32=True
        )
        for row in torch.nonzero(counted)[:, 0].tolist():
            level = levels[row].cpu().numpy()
            ious[row] = torch.from_numpy(_best_by_level(level, truth[row], len(thresholds), largest))
    return ious, counted


def _best_by_level(level: np.ndarray, truth: Tensor, steps: int, largest: bool) -> np.ndarray:
    kept = (level > step for step in range(steps))
    found = [contour_boxes(binary, largest=True) if largest else region_boxes(binary) for binary in kept]
    step_of = np.repeat(np.arange(steps), [len(boxes) for boxes in found])
    best = np.zeros(steps)
    ious = box_iou(torch.from_numpy(np.concatenate(found)).double(), truth)
    np.maximum.at(best, step_of, ious.amax(1).numpy())
    return best


def hits_at(ious: Tensor, wanted: Sequence[float]) -> Tensor:
    """Return hits (B, W T) bool of best IoUs (B, T), for each of the W least IoUs of a hit."""
    return torch.cat([ious >= iou for iou in wanted], 1)


class _BoxAccuracy(RowMeans):
    ious: tuple[float, ...]
    largest: bool

    def __init__(self, thresholds: int = 100, **kwargs: Any) -> None:
        grid = threshold_grid(thresholds)
        super().__init__(len(self.ious) * thresholds, **kwargs)
        self.thresholds = grid

    def update(self, heatmaps: Tensor, boxes: Sequence[Tensor], image_size: tuple[int, int]) -> None:
        """Score heatmaps (B, h, w) against per-image boxes (n, 4) xyxy in pixels of the image (H, W)."""
        ious, counted = best_ious(heatmaps, boxes, image_size, self.thresholds, self.largest)
        self.add(hits_at(ious, self.ious), counted)

    def _accuracies(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return for each IoU the best accuracy, the threshold that gives it, and the accuracy at threshold 0.5."""
        accuracy = parts(len(self.ious), self.mean()).float().to(self.device)
        best, place = accuracy.max(1)
        threshold = torch.where(self.count > 0, self.thresholds.to(best.device)[place], torch.nan)
        return best, threshold, accuracy[:, round(FIXED * len(self.thresholds))]


class MaxBoxAcc(_BoxAccuracy):
    """Share of images, in [0, 1], where the box around the largest contour matches an object's box (IoU >= 0.5).

    The threshold is chosen on the very images that the value is reported for, so the value is too high. The accuracy
    at the fixed threshold 0.5 therefore stands beside it. Choe et al. 2020.

    Only counts over the thresholds are kept, whatever the number of images. Images without a box are excluded. The
    per-image hits (B, T) are `best_ious(…, largest=True)[0] >= 0.5`; their mean over images is the accuracy curve.

    Args:
        thresholds: how many, an even number: 0, 1/thresholds, … on the heatmap scaled to [0, 1]. Each costs a
            contour search an image (0.1 ms at 224 × 224). The published code has 1000, over maps rounded to 256 levels.

    Examples:
        >>> metric = MaxBoxAcc()
        >>> metric.update(explanation.placed[:, 0], boxes, image_size=(224, 224))
        >>> metric.compute()["max_box_acc"]
    """

    ious = (0.5,)
    largest = True

    def compute(self) -> dict[str, Tensor]:
        """Return the values; NaN where no image was scored.

        Returns:
            `max_box_acc` and the `threshold` it was reached at (the lowest of equals), `box_acc` at the fixed
            threshold 0.5, `count` of images.
        """
        best, threshold, fixed = self._accuracies()
        return {"max_box_acc": best[0], "threshold": threshold[0], "box_acc": fixed[0], "count": self.count}


class MaxBoxAccV2(_BoxAccuracy):
    """MaxBoxAcc over any region's box, averaged over the IoUs 0.3, 0.5 and 0.7, in [0, 1].

    A region in the hole of another counts; the contour of a hole does not (the published code's contour search
    returns it). The threshold is chosen for each IoU separately, as published (Choe et al. 2020, extended version).
    Per-image hits are `best_ious(…, largest=False)[0] >= iou`. Otherwise as `MaxBoxAcc`.

    Args:
        thresholds: see `MaxBoxAcc`.
    """

    ious = (0.3, 0.5, 0.7)
    largest = False

    def compute(self) -> dict[str, Tensor]:
        """Return the values; NaN where no image was scored.

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


THRESHOLDS = threshold_grid(100)
GT_KNOWN_LOC = Value(
    "gt_known_loc",
    column(round(FIXED * len(THRESHOLDS))),
    "GT-known Loc (box accuracy, fixed threshold)",
    "Share of images where a box around the largest hot region (above half of the maximum) matches the object's box. "
    "For a single image 1 or 0.",
    minor=True,
)
TOP1_LOC = Value(
    "top1_loc",
    column(len(THRESHOLDS)),
    "Top-1 Loc (right class and right box)",
    "As box accuracy at the fixed threshold, but the class must be right, too.",
    minor=True,
)


def _rows(inputs: MetricInputs) -> Tensor:
    """Return hits of the largest contour's box over `THRESHOLDS`, then whether that at 0.5 has the right class."""
    assert inputs.boxes is not None
    ious, _ = best_ious(inputs.heatmaps, inputs.boxes, inputs.size, THRESHOLDS, largest=True)
    hits = hits_at(ious, MaxBoxAcc.ious)
    return torch.cat([hits, (GT_KNOWN_LOC.of_mean(hits) & inputs.correct.to(hits.device))[:, None]], 1)


def _rows_v2(inputs: MetricInputs) -> Tensor:
    assert inputs.boxes is not None
    ious, _ = best_ious(inputs.heatmaps, inputs.boxes, inputs.size, THRESHOLDS, largest=False)
    return hits_at(ious, MaxBoxAccV2.ious)


def _best(rows: Tensor) -> Tensor:
    return rows[..., : len(THRESHOLDS)].amax(-1)


def _best_of_three(rows: Tensor) -> Tensor:
    return parts(3, rows).amax(-1).mean(-1)


def _fixed_of_three(rows: Tensor) -> Tensor:
    return parts(3, rows)[..., round(FIXED * len(THRESHOLDS))].mean(-1)


register_metric(
    MetricSpec(
        "max_box_acc",
        _rows,
        (
            Value(
                "max_box_acc",
                _best,
                "MaxBoxAcc (box accuracy, best threshold)",
                "Share of images where a box around the largest hot region matches the object's box (overlap at least "
                "one half). The threshold was chosen on these images, so the value is too high; for a single image, "
                "whether any threshold works.",
                minor=True,
            ),
            GT_KNOWN_LOC,
            TOP1_LOC,
        ),
        (
            Curve(
                "box_accuracy",
                tuple(THRESHOLDS.tolist()),
                slice(0, len(THRESHOLDS)),
                title="Box of the largest contour",
                x_label="threshold of the map, scaled to 0 … 1",
                y_label="share with IoU ≥ 0.5",
                label="Box accuracy at every threshold",
                help="Share of images where a box around the largest hot region matches the object's, by threshold.",
                over="threshold",
            ),
        ),
        needs="boxes",
        group="Boxes and pointing",
        help="does the box around the largest contour match the object's, at the best threshold and at 0.5",
        width=len(THRESHOLDS) + 1,
        order=30,
    )
)
register_metric(
    MetricSpec(
        "max_box_acc_v2",
        _rows_v2,
        (
            Value(
                "max_box_acc_v2",
                _best_of_three,
                "MaxBoxAccV2 (box accuracy, three strictnesses)",
                "As box accuracy, but any hot region may match, and the result is the mean over a loose, a medium and "
                "a strict idea of matching (overlap 0.3, 0.5, 0.7).",
            ),
            Value(
                "box_acc_v2",
                _fixed_of_three,
                "Box accuracy, three strictnesses, fixed threshold",
                "The same where hot is what lies above half of the map's maximum: no threshold was chosen on these "
                "images.",
                minor=True,
            ),
        ),
        needs="boxes",
        group="Boxes and pointing",
        help="the same for any box, mean over IoU 0.3, 0.5, 0.7",
        width=3 * len(THRESHOLDS),
        order=40,
    )
)
