"""Localization: does the thresholded heatmap cover the object? Pixel accuracy, IoU, Dice, precision, recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from agcam.errors import InputError
from agcam.metrics import sums
from agcam.metrics.checks import check_boxes, check_heatmaps, check_masks
from agcam.metrics.maps import contour_boxes, fill_boxes, min_max, upsample

Protocol = Literal["corrected", "leem2024"]
NAMES = ("pixel_accuracy", "iou", "dice", "precision", "recall")
_EPS = 1e-5


class Localization(Metric):
    """Mean over images of five overlap figures, each in [0, 1], between a thresholded heatmap and the object.

    A heatmap is upsampled to the image (bilinear), scaled to [0, 1] and kept where it is above `threshold`.
    Against masks the remaining pixels are scored as they are; against boxes each outer contour is replaced by its
    bounding box first, and the union of those boxes is scored against the union of the ground-truth boxes.

    Protocol `"corrected"`: no off-by-one, an undefined fraction (nothing predicted) is 0, pixels marked `ignore`
    count nowhere, and images without any ground-truth pixel are left out. Protocol `"leem2024"` is that of the
    AG-CAM paper's published code, kept for parity: right and lower edges are filled too, so predicted boxes are
    one pixel wider, ground-truth coordinates are truncated, and 1e-5 is added to both sides of each fraction.

    Args:
        threshold: in [0, 1), on the heatmap scaled to [0, 1].
        protocol: `"corrected"` or `"leem2024"`.

    Example:
        >>> metric = Localization(threshold=0.5)
        >>> metric.update(explanation.heatmaps[:, 0], masks=masks, image_size=(224, 224))
        >>> metric.compute()["iou"]
    """

    full_state_update = False
    sums: Tensor
    count: Tensor

    def __init__(self, threshold: float = 0.5, protocol: Protocol = "corrected", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= threshold < 1:
            raise InputError(f"threshold must be in [0, 1), found {threshold}")
        if protocol not in ("corrected", "leem2024"):
            raise InputError(f"protocol must be 'corrected' or 'leem2024', found {protocol!r}")
        self.threshold = threshold
        self.protocol = protocol
        self.add_state("sums", sums.zeros(len(NAMES)), dist_reduce_fx=sums.merged)
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        heatmaps: Tensor,
        boxes: Sequence[Tensor] | None = None,
        masks: Tensor | None = None,
        image_size: tuple[int, int] | None = None,
        ignore: Tensor | None = None,
    ) -> None:
        """Score a batch.

        Args:
            heatmaps: (B, h, w), any units.
            boxes: per image (n, 4) xyxy in pixels of the image. Give boxes or masks, not both.
            masks: (B, H, W) bool, true on the object.
            image_size: (H, W); may be left out with masks.
            ignore: (B, H, W) bool, pixels to leave out; with masks only.
        """
        figures, counted = score(heatmaps, boxes, masks, image_size, ignore, self.threshold, self.protocol)
        self.sums = sums.plus(self.sums, figures[counted])
        self.count += counted.sum().to(self.count)

    def compute(self) -> dict[str, Tensor]:
        """The five means and `count`, the number of images scored; NaN where no image was."""
        means = (sums.read(self.sums) / self.count.cpu()).float().to(self.device)
        return dict(zip(NAMES, means, strict=True)) | {"count": self.count}


def score(
    heatmaps: Tensor,
    boxes: Sequence[Tensor] | None,
    masks: Tensor | None,
    image_size: tuple[int, int] | None,
    ignore: Tensor | None,
    threshold: float,
    protocol: Protocol,
) -> tuple[Tensor, Tensor]:
    """The five figures image by image; arguments as in `Localization`.

    Returns:
        On the CPU (B, 5) float64 in the order of `NAMES`, and (B,) bool: which images can be scored.

    Raises:
        InputError: shapes do not fit, boxes or masks are malformed, or a heatmap is not finite.
    """
    check_heatmaps(heatmaps)
    if (boxes is None) == (masks is None):
        raise InputError("give either boxes or masks")
    parity = protocol == "leem2024"
    if masks is not None:
        truth = check_masks(heatmaps, masks, ignore)
        size = (int(masks.shape[1]), int(masks.shape[2]))
        if image_size is not None and tuple(image_size) != size:
            raise InputError(f"image_size {image_size} is not that of the masks, {size}; it may be left out")
    else:
        if boxes is None or image_size is None:
            raise InputError("boxes need image_size, (H, W) in pixels")
        if ignore is not None:
            raise InputError("ignore goes with masks: boxes say nothing of single pixels")
        size = image_size
        filled = [fill_boxes(entry, size, inclusive=parity) for entry in check_boxes(heatmaps, boxes, image_size)]
        truth = torch.from_numpy(np.stack(filled) if filled else np.zeros((0, *size), bool)).to(heatmaps.device)
    if not len(heatmaps):
        empty = torch.zeros(0, len(NAMES), dtype=torch.float64)
        return empty, empty[:, 0].bool()

    predicted = min_max(upsample(heatmaps, size)) > threshold
    if masks is None or parity:
        rows = predicted.cpu().numpy()
        boxed = np.stack([fill_boxes(contour_boxes(row), size, inclusive=parity) for row in rows])
        predicted = torch.from_numpy(boxed).to(heatmaps.device)
    return _overlap(predicted, truth, ignore, parity)


def _overlap(predicted: Tensor, truth: Tensor, ignore: Tensor | None, parity: bool) -> tuple[Tensor, Tensor]:
    if ignore is not None:
        predicted, truth = predicted & ~ignore, truth & ~ignore
    tp, hot, object_pixels = _count(predicted & truth), _count(predicted), _count(truth)
    fp, fn = hot - tp, object_pixels - tp
    pixels = truth.shape[1] * truth.shape[2]
    total = torch.full_like(tp, pixels) if ignore is None else pixels - _count(ignore)
    eps = _EPS if parity else 0.0

    def fraction(part: Tensor, whole: Tensor) -> Tensor:
        return torch.where(whole + eps > 0, (part + eps) / (whole + eps), 0.0)

    figures = [
        fraction(total - fp - fn, total),
        fraction(tp, tp + fp + fn),
        fraction(2 * tp, 2 * tp + fp + fn),
        fraction(tp, tp + fp),
        fraction(tp, tp + fn),
    ]
    counted = torch.ones_like(tp, dtype=torch.bool) if parity else tp + fn > 0
    return torch.stack(figures, dim=1), counted


def _count(pixels: Tensor) -> Tensor:
    # int32 holds 2·10⁹ pixels, and adds up twice as fast as the int64 that is the default for bool
    return pixels.sum((1, 2), dtype=torch.int32).cpu().double()
