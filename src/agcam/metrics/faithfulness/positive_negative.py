"""Positive and negative perturbation (Chefer et al. 2021, arXiv 2012.09838): how long does the class stay right?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from agcam.metrics.faithfulness.curves import CurvePair
from agcam.metrics.faithfulness.perturbation import (
    area,
    first_choices,
    perturbed_logits,
    pixel_counts,
    prepare,
    replace_by,
)

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def positive_negative_hits(
    model: nn.Module,
    images: Tensor,
    heatmaps: Tensor,
    labels: Tensor,
    baseline: Tensor | None = None,
    batch_size: int = 32,
) -> tuple[Tensor, Tensor]:
    """Whether the first choice is still the label with 10, 20, … 90 % of the pixels gone.

    Args:
        model: gives logits (n, C) for images (n, 3, H, W).
        images: (B, 3, H, W), normalised.
        heatmaps: (B, h, w), any units, of the predicted class or of the label's (the paper reports both).
        labels: (B,) int64, the ground truth.
        baseline: what removed pixels become, broadcast to the images; zero (the mean colour) if left out. The
            published code blackens them before normalisation: `(-mean / std)[:, None, None]`.
        batch_size: images a forward.

    Returns:
        `positive` (most relevant pixels gone first) and `negative` (least relevant first), (9, B) bool each; an
        image's figures are their `area`.

    Raises:
        InputError: shapes do not fit, a heatmap is not finite, or a label is not a class.
    """
    images, most, least = prepare(images, heatmaps, labels)
    counts = pixel_counts((images.shape[2], images.shape[3]), FRACTIONS)
    fill = replace_by(images, torch.zeros(()) if baseline is None else baseline)
    positive = perturbed_logits(model, fill, most, counts, batch_size)
    negative = perturbed_logits(model, fill, least, counts, batch_size)
    return first_choices(positive, labels), first_choices(negative, labels)


class PositiveNegative(CurvePair):
    """Mean top-1 accuracy, in [0, 1], while pixels go: positive (lower is better) and negative (higher is better).

    Each figure is the area under accuracy over the fractions .1 … .9, divided by their span .8, so that it is an
    accuracy. Chefer et al. 2021. Per-image hits: `positive_negative_hits`. Only the curves' sums are kept.

    Args:
        model: gives logits (n, C) for normalised images (n, 3, H, W); used in evaluation mode and left as found.
        baseline: see `positive_negative_hits`.
        batch_size: images a forward.

    Example:
        >>> metric = PositiveNegative(model)
        >>> metric.update(images, explanation.heatmaps[:, 0], labels)
        >>> metric.compute()["negative"]
    """

    def __init__(self, model: nn.Module, baseline: Tensor | None = None, batch_size: int = 32, **kwargs: Any) -> None:
        super().__init__(model, len(FRACTIONS), batch_size, **kwargs)
        self.baseline = baseline

    def update(self, images: Tensor, heatmaps: Tensor, labels: Tensor) -> None:
        """Score heatmaps (B, h, w) of images (B, 3, H, W), normalised, whose classes are `labels` (B,) int64."""
        if len(images):
            hits = positive_negative_hits(self.model, images, heatmaps, labels, self.baseline, self.batch_size)
            self.add(*hits)

    def compute(self) -> dict[str, Tensor]:
        """`positive`, `negative` (areas), `positive_curve`, `negative_curve` (9,), `count` of images."""
        positive, negative = self.means()
        return {
            "positive": area(positive, FRACTIONS).float(),
            "negative": area(negative, FRACTIONS).float(),
            "positive_curve": positive.float(),
            "negative_curve": negative.float(),
            "count": self.count,
        }
