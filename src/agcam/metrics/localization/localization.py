"""Localization: does the thresholded heatmap cover the object? Pixel accuracy, IoU, Dice, precision, recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from agcam.errors import InputError
from agcam.metrics.checks import check_boxes, check_heatmaps, check_masks
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.maps import contour_boxes, evidence, fill_boxes, min_max, upsample
from agcam.metrics.means import RowMeans
from agcam.metrics.registry import register_metric
from agcam.metrics.spec import Curve, MetricSpec, Restriction, Value, column

Protocol = Literal["corrected", "leem2024"]
_WORDS = {
    "pixel_accuracy": (
        "Pixel accuracy",
        "Share of all pixels on which hot region and object agree. High for small objects even if the object is "
        "missed, because most of the picture is background.",
    ),
    "iou": (
        "Overlap (IoU)",
        "How well the hot region and the object cover each other: their common area divided by the area that either "
        "covers. 1 is a perfect match, 0 no overlap.",
    ),
    "dice": ("Dice", "Overlap like IoU, but kinder to partial matches. 1 is a perfect match, 0 no overlap."),
    "precision": ("Precision", "Share of the hot region that lies on the object."),
    "recall": ("Recall", "Share of the object that the hot region covers."),
}
NAMES = tuple(_WORDS)
SWEEP = tuple(step / 20 for step in range(1, 20))
_EPS = 1e-5


def _values(metric: str, more_label: str = "", more_help: str = "") -> tuple[Value, ...]:
    return tuple(
        Value(f"{metric}/{name}", column(k), label + more_label, meaning + more_help, minor=name != "iou")
        for k, (name, (label, meaning)) in enumerate(_WORDS.items())
    )


class Localization(RowMeans):
    """Mean over images of five overlap values, each in [0, 1], between a thresholded heatmap and the object.

    A heatmap is upsampled to the image (bilinear), scaled to [0, 1] and kept where it is above `threshold`.
    Of a map with negative values, which speak against the class, the positive part is taken ("corrected" only).
    Against masks the remaining pixels are scored as they are; against boxes each outer contour is replaced by its
    bounding box first, and the union of those boxes is scored against the union of the ground-truth boxes.

    Protocol `"corrected"`: no off-by-one, an undefined fraction (nothing predicted) is 0, pixels marked `ignore`
    are excluded, and so are images without a ground-truth pixel. Protocol `"leem2024"` is that of the
    AG-CAM paper's published code, kept for parity: right and lower edges are filled too, so predicted boxes are
    one pixel wider, ground-truth coordinates are truncated, and 1e-5 is added to both sides of each fraction.

    Args:
        threshold: in [0, 1), on the heatmap scaled to [0, 1].
        protocol: `"corrected"` or `"leem2024"`.

    Examples:
        >>> metric = Localization(threshold=0.5)
        >>> metric.update(explanation.placed[:, 0], masks=masks, image_size=(224, 224))
        >>> metric.compute()["iou"]
    """

    def __init__(self, threshold: float = 0.5, protocol: Protocol = "corrected", **kwargs: Any) -> None:
        super().__init__(len(NAMES), _values("localization"), **kwargs)
        if not 0 <= threshold < 1:
            raise InputError(f"threshold must be in [0, 1), found {threshold}")
        if protocol not in ("corrected", "leem2024"):
            raise InputError(f"protocol must be 'corrected' or 'leem2024', found {protocol!r}")
        self.threshold = threshold
        self.protocol = protocol

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
        self.add(*score(heatmaps, boxes, masks, image_size, ignore, self.threshold, self.protocol))


def score(
    heatmaps: Tensor,
    boxes: Sequence[Tensor] | None,
    masks: Tensor | None,
    image_size: tuple[int, int] | None,
    ignore: Tensor | None,
    threshold: float,
    protocol: Protocol,
) -> tuple[Tensor, Tensor]:
    """Score image by image; arguments as in `Localization`.

    Returns:
        On the CPU (B, 5) float64 in the order of `NAMES`, and (B,) bool, which images can be scored.

    Raises:
        InputError: if shapes do not match, boxes or masks are malformed, or a heatmap is not finite.
    """
    check_heatmaps(heatmaps)
    if (boxes is None) == (masks is None):
        raise InputError(f"found {'neither boxes nor masks' if boxes is None else 'boxes and masks'}; give one of them")
    parity = protocol == "leem2024"
    if masks is not None:
        truth = check_masks(heatmaps, masks, ignore)
        size = (int(masks.shape[1]), int(masks.shape[2]))
        if image_size is not None and tuple(image_size) != size:
            raise InputError(f"image_size is {image_size}, but the masks are {size}; leave it out")
    else:
        if boxes is None or image_size is None:
            raise InputError("found boxes without image_size; add image_size=(H, W) in pixels")
        if ignore is not None:
            raise InputError(
                "found ignore with boxes, which say nothing about single pixels; give masks or leave ignore out"
            )
        size = image_size
        filled = [fill_boxes(entry, size, inclusive=parity) for entry in check_boxes(heatmaps, boxes, image_size)]
        truth = torch.from_numpy(np.stack(filled) if filled else np.zeros((0, *size), bool)).to(heatmaps.device)
    if not len(heatmaps):
        empty = torch.zeros(0, len(NAMES), dtype=torch.float64)
        return empty, empty[:, 0].bool()

    scale = min_max if parity else evidence
    predicted = scale(upsample(heatmaps, size)) > threshold
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

    values = [
        fraction(total - fp - fn, total),
        fraction(tp, tp + fp + fn),
        fraction(2 * tp, 2 * tp + fp + fn),
        fraction(tp, tp + fp),
        fraction(tp, tp + fn),
    ]
    counted = torch.ones_like(tp, dtype=torch.bool) if parity else tp + fn > 0
    return torch.stack(values, dim=1), counted


def _count(pixels: Tensor) -> Tensor:
    # int32 holds 2·10⁹ pixels, and adds up twice as fast as the int64 that is the default for bool
    return pixels.sum((1, 2), dtype=torch.int32).cpu().double()


def _rows(inputs: MetricInputs, thresholds: Sequence[float], protocol: Protocol) -> list[Tensor]:
    """Return rows (P, 5) for each of the thresholds."""
    boxes, masks, ignore = inputs.ground_truth()
    found = []
    for threshold in thresholds:
        rows, counted = score(inputs.heatmaps, boxes, masks, inputs.size, ignore, threshold, protocol)
        rows[~counted] = torch.nan
        found.append(rows)
    return found


def _corrected(inputs: MetricInputs) -> Tensor:
    """Return the five values at threshold 0.5, then the IoU at each threshold of `SWEEP`."""
    fixed, *sweep = _rows(inputs, (0.5, *SWEEP), "corrected")
    return torch.cat([fixed, torch.stack([rows[:, 1] for rows in sweep], 1)], 1)


def _leem2024(inputs: MetricInputs) -> Tensor:
    return _rows(inputs, (0.5,), "leem2024")[0]


def _alone_and_correct(inputs: MetricInputs) -> Tensor:
    return inputs.alone & inputs.correct


register_metric(
    MetricSpec(
        "localization",
        _corrected,
        _values("localization"),
        (
            Curve(
                "iou_sweep",
                SWEEP,
                slice(len(NAMES), None),
                title="Overlap with the object",
                x_label="threshold of the map, scaled to 0 … 1",
                y_label="mean IoU",
                label="Overlap at every threshold",
                help="Overlap (IoU) of the region hotter than a threshold with the object, for thresholds from low to "
                "high.",
                over="threshold",
            ),
        ),
        needs="objects",
        group="Localization, corrected protocol",
        help="overlap with the object at threshold 0.5, corrected protocol",
        width=len(NAMES) + len(SWEEP),
        order=10,
    )
)
register_metric(
    MetricSpec(
        "leem2024",
        _leem2024,
        _values(
            "leem2024",
            ", paper's protocol",
            " By the paper's protocol: only images of one class that the model recognizes.",
        ),
        needs="objects",
        only=Restriction("images of one class, with a right top-1 class and a known object", _alone_and_correct),
        group="Localization, protocol of Leem & Seo 2024",
        help="the same by the paper's protocol",
        width=len(NAMES),
        order=20,
    )
)
