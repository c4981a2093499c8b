"""Insertion and deletion (Petsiuk et al. 2018, RISE, arXiv 1806.07421)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agcam.errors import InputError
from agcam.metrics.faithfulness.curves import CurvePair
from agcam.metrics.faithfulness.perturbation import (
    area,
    perturbed_logits,
    pixel_counts,
    prepare,
    probabilities,
    replace_by,
)

KERNEL, SIGMA = 11, 5.0


def insertion_deletion_curves(
    model: nn.Module,
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    steps: int = 20,
    batch_size: int = 32,
    multilabel: bool = False,
) -> tuple[Tensor, Tensor]:
    """The target's probability while the most relevant pixels come, or go, first.

    Insertion starts from the blurred image (Gaussian, 11 × 11, sigma 5) and shows more and more pixels of the
    image itself. Deletion starts from the image and zeroes them: the mean colour, as the image is normalised.

    Args:
        model: gives logits (n, C) for images (n, 3, H, W).
        images: (B, 3, H, W), normalised, 6 pixels or more a side.
        heatmaps: (B, h, w), any units.
        targets: (B,) int64.
        steps: the fractions are 0, 1/steps, … 1. RISE moves 224 pixels a step, which is 224 steps.
        batch_size: images a forward.
        multilabel: take the target's sigmoid instead of its softmax.

    Returns:
        `insertion` and `deletion`, (steps + 1, B) float32 each; an image's figures are their `area`.

    Raises:
        InputError: shapes do not fit, a heatmap is not finite, or a target is not a class.
    """
    images, most, _ = prepare(images, heatmaps, targets)
    height, width = images.shape[2:]
    if min(height, width) <= KERNEL // 2:
        raise InputError(
            f"images must be larger than {KERNEL // 2} pixels a side to be blurred, found {height}×{width}"
        )
    counts = pixel_counts((height, width), fractions(steps))
    blurred = blur(images)
    # showing the first n pixels is removing the others, the last ones first
    backwards, hidden = height * width - 1 - most, [height * width - count for count in counts]
    shown = perturbed_logits(model, replace_by(images, blurred), backwards, hidden, batch_size)
    gone = perturbed_logits(model, replace_by(images, torch.zeros(())), most, counts, batch_size)
    return probabilities(shown, targets, multilabel), probabilities(gone, targets, multilabel)


def blur(images: Tensor) -> Tensor:
    """Images (B, C, H, W) under a Gaussian of 11 × 11 pixels and sigma 5, mirrored at the border."""
    reach = KERNEL // 2
    offset = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    weight = torch.softmax(-(offset**2) / (2 * SIGMA**2), dim=0)
    planes = F.pad(images, (reach, reach, reach, reach), mode="reflect").flatten(0, 1)[:, None]
    rows = F.conv2d(planes, weight.view(1, 1, 1, -1))
    return F.conv2d(rows, weight.view(1, 1, -1, 1)).view_as(images)


def fractions(steps: int) -> list[float]:
    """0, 1/steps, … 1."""
    return [step / steps for step in range(steps + 1)]


class InsertionDeletion(CurvePair):
    """Areas under the insertion curve (higher is better) and the deletion curve (lower is better), in [0, 1].

    Baselines and fractions are those of `insertion_deletion_curves`, which gives per-image curves. Petsiuk et al.
    2018. Only the curves' sums are kept, whatever the number of images.

    Args:
        model: gives logits (n, C) for normalised images (n, 3, H, W); used in evaluation mode and left as found.
        steps: the fractions are 0, 1/steps, … 1; an image costs 2 (steps + 1) forwards.
        batch_size: images a forward.

    Example:
        >>> metric = InsertionDeletion(model)
        >>> metric.update(images, explanation.heatmaps[:, 0], labels)
        >>> metric.compute()["insertion"]
    """

    def __init__(self, model: nn.Module, steps: int = 20, batch_size: int = 32, **kwargs: Any) -> None:
        if steps < 1:
            raise InputError(f"steps must be 1 or more, found {steps}")
        super().__init__(model, steps + 1, batch_size, **kwargs)
        self.steps = steps

    def update(self, images: Tensor, heatmaps: Tensor, targets: Tensor) -> None:
        """Score heatmaps (B, h, w) of images (B, 3, H, W), normalised, for the classes `targets` (B,) int64."""
        if len(images):
            self.add(*insertion_deletion_curves(self.model, images, heatmaps, targets, self.steps, self.batch_size))

    def compute(self) -> dict[str, Tensor]:
        """`insertion`, `deletion` (areas), `insertion_curve`, `deletion_curve` (steps + 1,), `count` of images."""
        insertion, deletion = self.means()
        return {
            "insertion": area(insertion, fractions(self.steps)).float(),
            "deletion": area(deletion, fractions(self.steps)).float(),
            "insertion_curve": insertion.float(),
            "deletion_curve": deletion.float(),
            "count": self.count,
        }
