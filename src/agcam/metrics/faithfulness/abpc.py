"""ABPC, the area between perturbation curves (Leem & Seo 2024, arXiv 2402.04563; curves of Samek et al. 2017)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from agcam.metrics.faithfulness.curves import CurvePair
from agcam.metrics.faithfulness.perturbation import perturbed_logits, pixel_counts, prepare, probabilities, replace_by

FRACTIONS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def abpc_curves(
    model: nn.Module, images: Tensor, heatmaps: Tensor, targets: Tensor, batch_size: int = 32, multilabel: bool = False
) -> tuple[Tensor, Tensor]:
    """The target's probability while 0, 10, … 100 % of the pixels are zeroed.

    Args:
        model: gives logits (n, C) for images (n, 3, H, W).
        images: (B, 3, H, W), normalised: zero is the mean colour.
        heatmaps: (B, h, w), any units, upsampled to the image and ranked by `rank_pixels`.
        targets: (B,) int64, the ground-truth classes.
        batch_size: images a forward. The curves share their ends, so an image costs 20 forwards.
        multilabel: take the target's sigmoid instead of its softmax.

    Returns:
        `lerf` and `morf`, (11, B) float32 each: least and most relevant pixels first. An image's ABPC is the mean
        over the steps of `lerf - morf`.

    Raises:
        InputError: shapes do not fit, a heatmap is not finite, or a target is not a class.
    """
    images, most, least = prepare(images, heatmaps, targets)
    counts = pixel_counts((images.shape[2], images.shape[3]), FRACTIONS)
    fill = replace_by(images, torch.zeros(()))
    lerf = probabilities(perturbed_logits(model, fill, least, counts, batch_size), targets, multilabel)
    between = probabilities(perturbed_logits(model, fill, most, counts[1:-1], batch_size), targets, multilabel)
    return lerf, torch.cat([lerf[:1], between, lerf[-1:]])


class ABPC(CurvePair):
    """Area between perturbation curves, in [-1, 1]: higher is more faithful. Leem & Seo 2024.

    Per-image curves: `abpc_curves`. Only the curves' sums are kept, whatever the number of images.

    Args:
        model: gives logits (n, C) for normalised images (n, 3, H, W); used in evaluation mode and left as found.
        batch_size: images a forward.

    Example:
        >>> metric = ABPC(model)
        >>> metric.update(images, explanation.heatmaps[:, 0], labels)
        >>> metric.compute()["abpc"]
    """

    def __init__(self, model: nn.Module, batch_size: int = 32, **kwargs: Any) -> None:
        super().__init__(model, len(FRACTIONS), batch_size, **kwargs)

    def update(self, images: Tensor, heatmaps: Tensor, targets: Tensor) -> None:
        """Score heatmaps (B, h, w) of images (B, 3, H, W), normalised, for the classes `targets` (B,) int64."""
        if len(images):
            self.add(*abpc_curves(self.model, images, heatmaps, targets, self.batch_size))

    def compute(self) -> dict[str, Tensor]:
        """The figures; NaN where no image was scored.

        Returns:
            `abpc` = `lerf_auc` - `morf_auc`, each AUC the mean over the 11 steps; the mean curves `lerf` and `morf`
            (11,); `count` of images.
        """
        lerf, morf = self.means()
        return {
            "abpc": (lerf.mean() - morf.mean()).float(),
            "lerf_auc": lerf.mean().float(),
            "morf_auc": morf.mean().float(),
            "lerf": lerf.float(),
            "morf": morf.float(),
            "count": self.count,
        }
