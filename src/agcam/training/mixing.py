"""Mixup and CutMix of training batches."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torchvision.transforms import v2  # type: ignore[import-untyped]  # torchvision has no types

Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def make_mixing(mixup: float, cutmix: float, classes: int) -> Mixing | None:
    """Return a function that mixes images (B, 3, H, W) and labels, (B,) int64 or (B, C) float, into labels (B, C).

    torchvision's rather than `timm.data.Mixup`: it draws from torch's generator, which checkpoints can restore, not
    from numpy's, and it takes multi-hot labels and batches of odd size.

    Args:
        mixup: alpha of mixup (Zhang et al., ICLR 2018); 0 for none.
        cutmix: alpha of CutMix (Yun et al., ICCV 2019); 0 for none. With both, each batch gets one or the other.
        classes: number of classes.

    Returns:
        None if both are 0.
    """
    kinds = [
        kind(alpha=float(alpha), num_classes=classes)
        for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        if alpha
    ]
    return v2.RandomChoice(kinds) if kinds else None
