"""ROAD, remove and debias (Rong et al. 2022, arXiv 2202.00449): perturbation that leaves no mask to see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from agcam.errors import InputError
from agcam.metrics.faithfulness.curves import CurvePair
from agcam.metrics.faithfulness.imputation import impute_linearly
from agcam.metrics.faithfulness.perturbation import first_choices, perturbed_logits, pixel_counts, prepare

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
    """Whether the first choice is still the target with a share of the pixels imputed.

    Args:
        model: gives logits (n, C) for images (n, 3, H, W).
        images: (B, 3, H, W), normalised.
        heatmaps: (B, h, w), any units.
        targets: (B,) int64, the ground truth.
        fractions: F shares of pixels, in (0, 1).
        noise: see `impute_linearly`.
        seed: see `impute_linearly`.
        batch_size: images a forward. Imputation is the dearer part: a sparse linear system an image and step,
            solved on the CPU, 0.01 to 0.4 s each at 224 × 224.

    Returns:
        `lerf` and `morf`, (F, B) bool each: least and most relevant pixels gone first. An image's ROAD is the mean
        over the steps of `lerf - morf`.

    Raises:
        InputError: shapes do not fit, a heatmap is not finite, or a target is not a class.
    """
    images, most, least = prepare(images, heatmaps, targets)
    counts = pixel_counts((images.shape[2], images.shape[3]), fractions)
    fill = impute_linearly(images, noise, seed)
    lerf = perturbed_logits(model, fill, least, counts, batch_size)
    morf = perturbed_logits(model, fill, most, counts, batch_size)
    return first_choices(lerf, targets), first_choices(morf, targets)


class ROAD(CurvePair):
    """Top-1 accuracy kept, in [0, 1], while pixels are imputed from their neighbours. Rong et al. 2022.

    Zeroed pixels show the model the shape of the mask, which may carry the class; imputed ones hide it. Per-image
    hits: `road_hits`. Only the curves' sums are kept, whatever the number of images.

    Args:
        model: gives logits (n, C) for normalised images (n, 3, H, W); used in evaluation mode and left as found.
        fractions: F shares of pixels, in (0, 1), ascending.
        noise: standard deviation of the noise on imputed pixels, in the units of the normalised image.
        seed: of the noise.
        batch_size: images a forward.

    Example:
        >>> metric = ROAD(model)
        >>> metric.update(images, explanation.heatmaps[:, 0], labels)
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
            raise InputError(f"fractions must be in (0, 1), some pixels gone and some left, found {list(fractions)}")
        super().__init__(model, len(fractions), batch_size, **kwargs)
        self.fractions = tuple(fractions)
        self.noise = noise
        self.seed = seed

    def update(self, images: Tensor, heatmaps: Tensor, targets: Tensor) -> None:
        """Score heatmaps (B, h, w) of images (B, 3, H, W), normalised, for the classes `targets` (B,) int64."""
        if len(images):
            options = (self.fractions, self.noise, self.seed, self.batch_size)
            self.add(*road_hits(self.model, images, heatmaps, targets, *options))

    def compute(self) -> dict[str, Tensor]:
        """The figures; NaN where no image was scored.

        Returns:
            `road` = `lerf_auc` - `morf_auc`, in [-1, 1], higher is more faithful; each AUC the mean over the steps;
            the accuracy curves `lerf` and `morf` (F,); `count` of images.
        """
        lerf, morf = self.means()
        return {
            "road": (lerf.mean() - morf.mean()).float(),
            "lerf_auc": lerf.mean().float(),
            "morf_auc": morf.mean().float(),
            "lerf": lerf.float(),
            "morf": morf.float(),
            "count": self.count,
        }
