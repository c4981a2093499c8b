"""Positive and negative perturbation (Chefer et al. 2021, arXiv 2012.09838): how long is the class recognized?"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from agcam.metrics.faithfulness.perturbation import (
    CurvePair,
    half_area,
    perturbed_logits,
    pixel_counts,
    prepare,
    replace_by,
    top1_hits,
    zeroed_by,
)
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.registry import register_metric
from agcam.metrics.spec import ACCURACY, ALONE, MetricSpec, Value, halves

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def positive_negative_hits(
    model: nn.Module,
    images: Tensor,
    heatmaps: Tensor,
    labels: Tensor,
    baseline: Tensor | None = None,
    batch_size: int = 32,
) -> tuple[Tensor, Tensor]:
    """Return whether the top-1 class is still the label with 10, 20, … 90 % of the pixels removed.

    Args:
        model: gives logits (n, C) for images (n, 3, H, W).
        images: (B, 3, H, W), normalized.
        heatmaps: (B, h, w), any units, of the predicted class or of the label's (the paper reports both).
        labels: (B,) int64, the ground truth.
        baseline: what removed pixels become, broadcast to the images; zero (the mean color) if left out. The
            published code blackens them before normalization: `(-mean / std)[:, None, None]`.
        batch_size: images in a forward pass.

    Returns:
        `positive` (most relevant pixels removed first) and `negative` (least relevant first), (9, B) bool each; an
        image's values are their `area`.

    Raises:
        InputError: if shapes do not match, a heatmap is not finite, or a label is not a class.
    """
    images, most, least = prepare(images, heatmaps, labels)
    counts = pixel_counts((images.shape[2], images.shape[3]), FRACTIONS)
    fill = replace_by(images, torch.zeros(()) if baseline is None else baseline)
    positive = perturbed_logits(model, fill, most, counts, batch_size)
    negative = perturbed_logits(model, fill, least, counts, batch_size)
    return top1_hits(positive, labels), top1_hits(negative, labels)


class PositiveNegative(CurvePair):
    """Mean top-1 accuracy, in [0, 1], while pixels are removed: positive (lower is better), negative (higher).

    Each value is the area under the accuracy curve over the fractions .1 … .9, divided by their span .8, so that it
    is itself an accuracy. Chefer et al. 2021. Per-image hits: `positive_negative_hits`. Only the curves' sums are kept.

    Args:
        model: gives logits (n, C) for normalized images (n, 3, H, W); used in evaluation mode and left as found.
        baseline: see `positive_negative_hits`.
        batch_size: images in a forward pass.

    Examples:
        >>> metric = PositiveNegative(model)
        >>> metric.update(images, explanation.placed[:, 0], labels)
        >>> metric.compute()["negative"]
    """

    def __init__(self, model: nn.Module, baseline: Tensor | None = None, batch_size: int = 32, **kwargs: Any) -> None:
        hits_of = partial(positive_negative_hits, baseline=baseline)
        super().__init__(model, hits_of, _VALUES, _CURVES, batch_size, **kwargs)

    def update(self, images: Tensor, heatmaps: Tensor, labels: Tensor) -> None:
        """Score heatmaps (B, h, w) of images (B, 3, H, W), normalized, whose classes are `labels` (B,) int64."""
        super().update(images, heatmaps, labels)


def _rows(inputs: MetricInputs) -> Tensor:
    zeroed = zeroed_by(inputs)
    counts = pixel_counts(inputs.size, FRACTIONS)
    positive, negative = zeroed.logits("most", counts), zeroed.logits("least", counts)
    return torch.cat([top1_hits(positive, inputs.targets), top1_hits(negative, inputs.targets)]).T


_VALUES = (
    Value(
        "positive",
        partial(half_area, 0, FRACTIONS),
        "Positive perturbation (accuracy, hottest removed first)",
        "Share of images still recognized while the hottest pixels are removed first. It should fall fast.",
        higher_is_better=False,
        minor=True,
    ),
    Value(
        "negative",
        partial(half_area, 1, FRACTIONS),
        "Negative perturbation (accuracy, coldest removed first)",
        "Share of images still recognized while the coldest pixels are removed first. It should stay high.",
        minor=True,
    ),
)
_CURVES = halves(
    FRACTIONS,
    {
        "name": "positive",
        "title": "Positive perturbation",
        "x_label": "pixels zeroed, most relevant first",
        "label": "Recognized, hottest removed first",
        "help": "Share of images still recognized. It should fall.",
        "higher_is_better": False,
    },
    {
        "name": "negative",
        "title": "Negative perturbation",
        "x_label": "pixels zeroed, least relevant first",
        "label": "Recognized, coldest removed first",
        "help": "Share of images still recognized. It should stay high.",
    },
    y_label=ACCURACY,
)
register_metric(
    MetricSpec(
        "positive_negative",
        _rows,
        _VALUES,
        _CURVES,
        only=ALONE,
        group="Faithfulness",
        help="top-1 accuracy while the most or least relevant pixels are removed first",
        width=2 * len(FRACTIONS),
        order=110,
    )
)
