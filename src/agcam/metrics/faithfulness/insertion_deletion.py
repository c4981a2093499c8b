"""Insertion and deletion (Petsiuk et al. 2018, RISE, arXiv 1806.07421)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

# torchvision ships no types
from torchvision.transforms.v2.functional import gaussian_blur  # type: ignore[import-untyped]

from agcam.errors import InputError
from agcam.metrics.faithfulness.perturbation import (
    CurvePair,
    Zeroed,
    half_area,
    perturbed_logits,
    pixel_counts,
    probabilities,
    replace_by,
    zeroed_by,
)
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.registry import register_metric
from agcam.metrics.spec import PROBABILITY, Curve, MetricSpec, Value, halves

KERNEL, SIGMA, STEPS = 11, 5.0, 20


def insertion_deletion_curves(
    model: nn.Module,
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    steps: int = STEPS,
    batch_size: int = 32,
    multilabel: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the target's probability while the most relevant pixels are inserted first, and deleted first.

    Insertion starts from the blurred image (Gaussian, 11 × 11, sigma 5) and shows more and more pixels of the
    image itself. Deletion starts from the image and zeroes them: the mean color, as the image is normalized.

    Args:
        model: gives logits (n, C) for images (n, 3, H, W).
        images: (B, 3, H, W), normalized, at least 6 pixels a side.
        heatmaps: (B, h, w), any units.
        targets: (B,) int64.
        steps: the fractions are 0, 1/steps, … 1. RISE moves 224 pixels a step, which is 224 steps.
        batch_size: images in a forward pass. Both curves hold the image itself, and zeroed images are all the same: an
            image costs 2 · steps forward passes, a batch one more.
        multilabel: take the target's sigmoid instead of its softmax.

    Returns:
        `insertion` and `deletion`, (steps + 1, B) float32 each; an image's values are their `area`.

    Raises:
        InputError: if shapes do not match, a heatmap is not finite, or a target is not a class.
    """
    return _pair(Zeroed(model, images, heatmaps, targets, batch_size), steps, multilabel)


def _pair(zeroed: Zeroed, steps: int, multilabel: bool) -> tuple[Tensor, Tensor]:
    height, width = zeroed.images.shape[2:]
    if min(height, width) <= KERNEL // 2:
        raise InputError(
            f"images must be larger than {KERNEL // 2} pixels a side to be blurred, found {height}×{width}"
        )
    counts = pixel_counts((height, width), fractions(steps))
    deleted = zeroed.logits("most", counts)
    # inserting the first n pixels is removing the others, the last ones first
    backwards, hidden = height * width - 1 - zeroed.most, [height * width - count for count in counts[:-1]]
    fill = replace_by(zeroed.images, blur(zeroed.images))
    inserted = perturbed_logits(zeroed.model, fill, backwards, hidden, zeroed.batch_size)
    inserted = torch.cat([inserted[:, zeroed.rows], deleted[:1]])
    return probabilities(inserted, zeroed.targets, multilabel), probabilities(deleted, zeroed.targets, multilabel)


def blur(images: Tensor) -> Tensor:
    """Blur images (B, C, H, W) by a Gaussian of 11 × 11 pixels and sigma 5, mirrored at the border."""
    blurred: Tensor = gaussian_blur(images, [KERNEL, KERNEL], [SIGMA, SIGMA])
    return blurred


def fractions(steps: int) -> tuple[float, ...]:
    """Return 0, 1/steps, … 1."""
    return tuple(step / steps for step in range(steps + 1))


class InsertionDeletion(CurvePair):
    """Areas under the insertion curve (higher is better) and the deletion curve (lower is better), in [0, 1].

    Baselines and fractions are those of `insertion_deletion_curves`, which gives per-image curves. Petsiuk et al.
    2018. Only the curves' sums are kept, whatever the number of images.

    Args:
        model: gives logits (n, C) for normalized images (n, 3, H, W); used in evaluation mode and left as found.
        steps: the fractions are 0, 1/steps, … 1; an image costs 2 · steps forward passes, a batch one more.
        batch_size: images in a forward pass.

    Examples:
        >>> metric = InsertionDeletion(model)
        >>> metric.update(images, explanation.placed[:, 0], labels)
        >>> metric.compute()["insertion"]
    """

    def __init__(self, model: nn.Module, steps: int = STEPS, batch_size: int = 32, **kwargs: Any) -> None:
        if steps < 1:
            raise InputError(f"steps must be 1 or more, found {steps}")
        curves_of = partial(insertion_deletion_curves, steps=steps)
        super().__init__(model, curves_of, _values(steps), _curves(steps), batch_size, **kwargs)


def _rows(inputs: MetricInputs) -> Tensor:
    return torch.cat(_pair(zeroed_by(inputs), STEPS, inputs.multilabel)).T


def _values(steps: int) -> tuple[Value, ...]:
    return (
        Value(
            "insertion",
            partial(half_area, 0, fractions(steps)),
            "Insertion",
            "Mean probability of the class while a blurred picture is uncovered, the hottest pixels first. It should "
            "rise fast.",
        ),
        Value(
            "deletion",
            partial(half_area, 1, fractions(steps)),
            "Deletion",
            f"Mean probability of the class while the hottest pixels are removed first, in {steps} steps. It should "
            "fall fast.",
            higher_is_better=False,
        ),
    )


def _curves(steps: int) -> tuple[Curve, Curve]:
    return halves(
        fractions(steps),
        {
            "name": "insertion",
            "title": "Insertion",
            "x_label": "pixels shown, most relevant first",
            "label": "Blurred picture uncovered, hottest first",
            "help": "The class's probability while a blurred picture is uncovered. A faithful heatmap makes it rise at "
            "once.",
        },
        {
            "name": "deletion",
            "title": "Deletion",
            "x_label": "pixels zeroed, most relevant first",
            "label": f"Hottest pixels deleted, {steps} steps",
            "help": "As “most relevant first”, in finer steps. It should fall at once.",
            "higher_is_better": False,
        },
        y_label=PROBABILITY,
        for_one_image=True,
    )


register_metric(
    MetricSpec(
        "insertion_deletion",
        _rows,
        _values(STEPS),
        _curves(STEPS),
        group="Faithfulness",
        help=f"RISE, {STEPS} steps",
        width=2 * (STEPS + 1),
        order=100,
    )
)
