"""ABPC, the area between perturbation curves (Leem & Seo 2024, arXiv 2402.04563; curves of Samek et al. 2017)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from agcam.metrics.faithfulness.perturbation import (
    CurvePair,
    Zeroed,
    difference,
    half_mean,
    pixel_counts,
    probabilities,
    zeroed_by,
)
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.registry import register_metric
from agcam.metrics.spec import PROBABILITY, MetricSpec, Value, halves

FRACTIONS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def abpc_curves(
    model: nn.Module, images: Tensor, heatmaps: Tensor, targets: Tensor, batch_size: int = 32, multilabel: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the target's probability while 0, 10, … 100 % of the pixels are zeroed.

    Args:
        model: gives logits (n, C) for images (n, 3, H, W).
        images: (B, 3, H, W), normalized: zero is the mean color.
        heatmaps: (B, h, w), any units, upsampled to the image and ranked by `rank_pixels`.
        targets: (B,) int64, the ground-truth classes.
        batch_size: images in a forward pass. The curves share their ends, and zeroed images are all the same: an image
            costs 19 forward passes, a batch one more.
        multilabel: take the target's sigmoid instead of its softmax.

    Returns:
        `lerf` and `morf`, (11, B) float32 each: least and most relevant pixels first. An image's ABPC is the mean
        over the steps of `lerf - morf`.

    Raises:
        InputError: if shapes do not match, a heatmap is not finite, or a target is not a class.
    """
    return _pair(Zeroed(model, images, heatmaps, targets, batch_size), multilabel)


def _pair(zeroed: Zeroed, multilabel: bool) -> tuple[Tensor, Tensor]:
    counts = pixel_counts((zeroed.images.shape[2], zeroed.images.shape[3]), FRACTIONS)
    lerf, morf = zeroed.logits("least", counts), zeroed.logits("most", counts)
    return probabilities(lerf, zeroed.targets, multilabel), probabilities(morf, zeroed.targets, multilabel)


class ABPC(CurvePair):
    """Area between perturbation curves, in [-1, 1]: higher is more faithful. Leem & Seo 2024.

    Per-image curves: `abpc_curves`. Only the curves' sums are kept, whatever the number of images.

    Args:
        model: gives logits (n, C) for normalized images (n, 3, H, W); used in evaluation mode and left as found.
        batch_size: images in a forward pass.

    Examples:
        >>> metric = ABPC(model)
        >>> metric.update(images, explanation.placed[:, 0], labels)
        >>> metric.compute()["abpc"]
    """

    def __init__(self, model: nn.Module, batch_size: int = 32, **kwargs: Any) -> None:
        super().__init__(model, abpc_curves, _VALUES, _CURVES, batch_size, **kwargs)


def _rows(inputs: MetricInputs) -> Tensor:
    return torch.cat(_pair(zeroed_by(inputs), inputs.multilabel)).T


_VALUES = (
    Value(
        "abpc",
        difference,
        "Faithfulness (ABPC)",
        "Pixels are removed step by step. Without its most relevant pixels a class should fade at once, without the "
        "least relevant ones hardly. This is the difference between the two: higher means that the heat marks what "
        "the model really uses, 0 that it marks nothing in particular.",
    ),
    Value(
        "lerf_auc",
        partial(half_mean, 0),
        "LeRF AUC (least relevant first)",
        "Mean probability of the class while the coldest pixels are removed first. It should stay high.",
        minor=True,
    ),
    Value(
        "morf_auc",
        partial(half_mean, 1),
        "MoRF AUC (most relevant first)",
        "Mean probability of the class while the hottest pixels are removed first. It should fall fast.",
        higher_is_better=False,
        minor=True,
    ),
)
_CURVES = halves(
    FRACTIONS,
    {
        "name": "lerf",
        "title": "ABPC: LeRF",
        "x_label": "pixels zeroed, least relevant first",
        "label": "Least relevant pixels removed first",
        "help": "The class's probability while the coldest pixels go first. A faithful heatmap keeps it high for long.",
    },
    {
        "name": "morf",
        "title": "ABPC: MoRF",
        "x_label": "pixels zeroed, most relevant first",
        "label": "Most relevant pixels removed first",
        "help": "The class's probability while the hottest pixels go first. A faithful heatmap makes it fall at once.",
        "higher_is_better": False,
    },
    y_label=PROBABILITY,
    for_one_image=True,
)
register_metric(
    MetricSpec(
        "abpc",
        _rows,
        _VALUES,
        _CURVES,
        group="Faithfulness",
        help="area between perturbation curves (Leem & Seo 2024)",
        width=2 * len(FRACTIONS),
        order=90,
    )
)
