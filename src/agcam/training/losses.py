"""What training minimizes: a loss for each image, from class indices, multi-hot or mixed labels."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from timm.loss import AsymmetricLossMultiLabel
from torch import Tensor

from agcam.errors import ModelError

LossName = Literal["auto", "cross_entropy", "bce", "asymmetric"]


def choose_loss(name: LossName, multilabel: bool) -> LossName:
    """Return the loss that "auto" stands for; any other name is returned if it fits the data.

    Raises:
        ModelError: if it does not.
    """
    fit: tuple[LossName, ...] = ("bce", "asymmetric") if multilabel else ("cross_entropy", "bce")
    if name == "auto":
        return fit[0]
    if name not in fit:
        kind = "multi-label" if multilabel else "single-label"
        raise ModelError(f"model.loss {name} does not fit {kind} data; choose {fit[0]} or {fit[1]}")
    return name


def image_losses(name: LossName, logits: Tensor, label: Tensor, multilabel: bool, smoothing: float = 0.0) -> Tensor:
    """Compute the loss of each image, (B,).

    Binary losses are means over classes, so that they do not grow with the number of classes; smoothing moves
    labels towards 1/C, in multi-label data towards 1/2, as in timm.

    Args:
        name: from `choose_loss`; "asymmetric" is Ridnik et al., ICCV 2021, with timm's defaults: γ− 4, γ+ 1, margin
            0.05.
        logits: (B, C).
        label: (B,) int64, or (B, C) float: multi-hot, or mixed by mixup or CutMix.
        multilabel: whether an image may show several classes.
        smoothing: of the labels.
    """
    if name == "cross_entropy":
        return F.cross_entropy(logits, label, label_smoothing=smoothing, reduction="none")
    classes = logits.shape[1]
    target = F.one_hot(label, classes).to(logits.dtype) if label.dim() == 1 else label
    if smoothing:
        target = target * (1 - smoothing) + smoothing * (0.5 if multilabel else 1 / classes)
    if name == "asymmetric":
        losses: Tensor = AsymmetricLossMultiLabel(reduction="none")(logits, target)
        return losses.mean(1)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)
