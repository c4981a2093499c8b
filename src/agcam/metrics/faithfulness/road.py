"""ROAD, remove and debias (Rong et al. 2022, arXiv 2202.00449): perturbation that does not reveal its mask."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from agcam.errors import InputError
from agcam.metrics.faithfulness.imputation import impute_linearly
from agcam.metrics.faithfulness.perturbation import (
    CurvePair,
    difference,
    half_mean,
    pair_rows,
    perturbed_logits,
    pixel_counts,
    prepare,
    top1_hits,
)
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.registry import register_metric
from agcam.metrics.spec import ACCURACY, ALONE, Curve, MetricSpec, Value, halves

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def road_hits(
    model: nn.Module,
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    fractions: Sequence[float] = FRACTIONS,
    noise: float = 0.01,
    seed: int = 0,
    batch_size: int = 32,
) -> tuple[Tensor, Tensor]:
    """Return whether the top-1 class is still the target with a share of the pixels imputed.

    Args:
        model: gives logits (n, C) for images (n, 3, H, W).
        images: (B, 3, H, W), normalized.
        heatmaps: (B, h, w), any units.
        targets: (B,) int64, the ground truth.
        fractions: F shares of pixels, in (0, 1).
        noise: see `impute_linearly`.
        seed: see `impute_linearly`.
        batch_size: images in a forward pass. Imputation costs more: a sparse linear system for each image
            and step, solved on the CPU, 0.01 to 0.4 s each at 224 × 224.

    Returns:
        `lerf` and `morf`, (F, B) bool each: least and most relevant pixels removed first. An image's ROAD is the mean
        over the steps of `lerf - morf`.

    Raises:
        InputError: if shapes do not match, a heatmap is not finite, or a target is not a class.
    """
    images, most, least = prepare(images, heatmaps, targets)
    counts = pixel_counts((images.shape[2], images.shape[3]), fractions)
    fill = impute_linearly(images, noise, seed)
    lerf = perturbed_logits(model, fill, least, counts, batch_size)
    morf = perturbed_logits(model, fill, most, counts, batch_size)
    return top1_hits(lerf, targets), top1_hits(morf, targets)


class ROAD(CurvePair):
    """Top-1 accuracy, in [0, 1], while pixels are imputed from their neighbors. Rong et al. 2022.

    Zeroed pixels show the model the shape of the mask, which may carry the class; imputed ones hide it. Per-image
    hits: `road_hits`. Only the curves' sums are kept, whatever the number of images.

    Args:
        model: gives logits (n, C) for normalized images (n, 3, H, W); used in evaluation mode and left as found.
        fractions: F shares of pixels, in (0, 1), ascending.
        noise: standard deviation of the noise on imputed pixels, in the units of the normalized image.
        seed: of the noise.
        batch_size: images in a forward pass.

    Examples:
        >>> metric = ROAD(model)
        >>> metric.update(images, explanation.placed[:, 0], labels)
        >>> metric.compute()["road"]
    """

    def __init__(
        self,
        model: nn.Module,
        fractions: Sequence[float] = FRACTIONS,
        noise: float = 0.01,
        seed: int = 0,
        batch_size: int = 32,
        **kwargs: Any,
    ) -> None:
        if not fractions or not all(0 < fraction < 1 for fraction in fractions):
            raise InputError(
                f"fractions must be in (0, 1), so that some pixels are removed and some left, found {list(fractions)}"
            )
        hits_of = partial(road_hits, fractions=tuple(fractions), noise=noise, seed=seed)
        super().__init__(model, hits_of, _VALUES, _curves(tuple(fractions)), batch_size, **kwargs)


def _rows(inputs: MetricInputs) -> Tensor:
    return pair_rows(road_hits, inputs)


_VALUES = (
    Value(
        "road",
        difference,
        "ROAD",
        "Top-1 accuracy while pixels are painted over smoothly, coldest first, minus the same, hottest first.",
    ),
    Value(
        "road/lerf_auc",
        partial(half_mean, 0),
        "ROAD, coldest first",
        "Share of images still recognized while the coldest pixels are painted over first. It should stay high.",
        minor=True,
    ),
    Value(
        "road/morf_auc",
        partial(half_mean, 1),
        "ROAD, hottest first",
        "Share of images still recognized while the hottest pixels are painted over first. It should fall fast.",
        higher_is_better=False,
        minor=True,
    ),
)


def _curves(fractions: tuple[float, ...]) -> tuple[Curve, Curve]:
    return halves(
        fractions,
        {
            "name": "road/lerf",
            "title": "ROAD: LeRF",
            "x_label": "pixels imputed, least relevant first",
            "label": "ROAD, coldest painted over first",
            "help": "Share of images still recognized. It should stay high.",
        },
        {
            "name": "road/morf",
            "title": "ROAD: MoRF",
            "x_label": "pixels imputed, most relevant first",
            "label": "ROAD, hottest painted over first",
            "help": "Share of images still recognized. It should fall.",
            "higher_is_better": False,
        },
        y_label=ACCURACY,
    )


register_metric(
    MetricSpec(
        "road",
        _rows,
        _VALUES,
        _curves(FRACTIONS),
        only=ALONE,
        group="Faithfulness",
        help="the same with imputed pixels; takes seconds for each image and method on a CPU",
        slow=True,
        width=2 * len(FRACTIONS),
        order=120,
    )
)
