"""A word where images look as if nobody had normalized them."""

from __future__ import annotations

import warnings

from torch import Tensor

from agcam.explainers.model_info import ModelInfo

_FACTOR, _LEAST = 4.0, 16.0
_STRIDE = 8


def warn_of_raw_images(images: Tensor, info: ModelInfo, stacklevel: int = 2) -> None:
    """Warn if images reach far beyond what normalized ones can, as those with values 0 … 255 do.

    A pixel in [0, 1] becomes (pixel - mean) / std. Several times the largest of these cannot come from a normalized
    image, whatever it shows. Every eighth row is looked at. Images in [0, 1] are let pass: a bright image can be
    normalized to that. Python shows a warning of one place once.

    Args:
        images: (B, C, H, W).
        info: knows the model's mean and standard deviation; where it does not, nothing is said.
        stacklevel: of `warnings.warn`.
    """
    if info.mean is None or info.std is None:
        return
    reach = max(max(abs(m), abs(1 - m)) / s for m, s in zip(info.mean, info.std, strict=True))
    least, largest = images.detach()[:, :, ::_STRIDE].aminmax()
    most = max(-float(least), float(largest))
    if most > max(_FACTOR * reach, _LEAST):
        mean, std = ([round(value, 3) for value in values] for values in (info.mean, info.std))
        warnings.warn(
            f"images reach {most:.0f}: they do not look normalized. The model wants pixels scaled to 0 … 1, then "
            f"mean {mean} subtracted and divided by std {std}; else logits and heatmaps mean little",
            stacklevel=stacklevel,
        )
