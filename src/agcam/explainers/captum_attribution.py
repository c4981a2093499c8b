"""Captum's pixel attributions, summed over patches. Captum is an optional extra: it is imported when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from agcam.errors import InputError
from agcam.explainers.eager_attention import EagerAttention
from agcam.explainers.eager_forward import eager_forward, with_gradients
from agcam.explainers.patch_grid import covered_pixels
from agcam.explainers.recording import Recording

Reduction = Literal["sum", "abs"]
Forward = Callable[[Tensor], Tensor]


def import_captum() -> Any:
    """Return `captum.attr`.

    Raises:
        InputError: where Captum is not installed.
    """
    try:
        return import_module("captum.attr")
    except ImportError:
        raise InputError("this method is Captum's, which is not installed: pip install 'agcam[captum]'") from None


def attribute_by(
    recording: Recording, reduction: Reduction, make: Callable[[Forward], Callable[..., Tensor]]
) -> Callable[[Tensor], Tensor]:
    """Make a method of one of Captum's.

    Args:
        recording: the forward to explain, or one with no forward in it yet.
        reduction: how a patch's pixels and channels become one number: "sum", or "abs" for the sum of absolute values.
        make: from a forward (images to logits) to Captum's attribution, called with images and `target=`.

    Returns:
        A function from targets (B, T) to heatmaps (B, T, h, w).

    Raises:
        InputError: for an unknown reduction.
    """
    if reduction not in ("sum", "abs"):
        raise InputError(f"reduction must be one of sum, abs, found {reduction!r}")
    with with_gradients(recording) as convert, torch.no_grad():
        logits = eager_forward(recording, EagerAttention(convert))
    (h, w), (height, width) = recording.grid, recording.images.shape[-2:]
    covered = covered_pixels(recording, (h, w))

    def forward(images: Tensor) -> Tensor:
        # the images along the way are not the recorded ones: neither are their logits
        path = Recording(recording.model, recording.parts, images, reader=recording.reader, vit=recording.vit)
        return eager_forward(path, EagerAttention(convert))

    def heatmaps(targets: Tensor) -> Tensor:
        with with_gradients(recording):
            images = recording.images.detach().clone().to(logits.dtype).requires_grad_()
            found = [make(forward)(images, target=target).detach() for target in targets.unbind(1)]
        pixels = torch.stack(found, 1).sum(2) if reduction == "sum" else torch.stack(found, 1).abs().sum(2)
        # a margin that no patch covers is cut off; patches that reach beyond the image have nothing there
        pixels = F.pad(pixels, (0, covered[1] - width, 0, covered[0] - height))
        patch = (covered[0] // h, covered[1] // w)
        return F.avg_pool2d(pixels, patch).float() * (patch[0] * patch[1])

    return heatmaps
