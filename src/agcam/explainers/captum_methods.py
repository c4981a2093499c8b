"""Captum's pixel attributions, summed over patches. Captum is an optional extra: it is imported when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from agcam.errors import InputError, ModelError
from agcam.explainers.eager_attention import Explicit
from agcam.explainers.eager_forward import run, with_gradients
from agcam.explainers.recorder import Recording

Reduction = Literal["sum", "abs"]


def input_x_gradient(recording: Recording, *, reduction: Reduction = "sum") -> Callable[[Tensor], Tensor]:
    """Input × gradient (Shrikumar et al., 2016, arXiv 1605.01713), by Captum, summed over each patch.

    With a = x ⊙ ∂y / ∂x for each pixel and channel of the normalised image,

        M[patch] = Σ a        ("abs": Σ |a|)        over the patch's pixels and channels.

    The plain sum is the default: it keeps what the attributions mean, the patch's part in the logit, signed, so that
    patches which speak against the class are negative. "abs" tells how much a patch matters, either way.

    Args:
        recording: the forward to explain, or one with no forward in it yet.
        reduction: "sum" or "abs".

    Returns:
        A function from targets (B, T) to heatmaps (B, T, h, w), float32, in units of the logit. Each target costs a
        forward and a backward pass.

    Raises:
        InputError: for an unknown reduction, or where Captum is not installed.
        ModelError: if the image does not divide into the patch grid.
    """
    captum = _captum()
    return _attributions(recording, reduction, lambda forward: captum.InputXGradient(forward).attribute)


def integrated_gradients(
    recording: Recording, *, reduction: Reduction = "sum", steps: int = 50
) -> Callable[[Tensor], Tensor]:
    """Integrated gradients (Sundararajan et al., ICML 2017, arXiv 1703.01365), by Captum, summed over each patch.

    From the baseline 0 (the data set's mean colour, since images are normalised), for each pixel and channel

        a = x ⊙ ∫ ∂y(t·x) / ∂x dt,    t from 0 to 1 by Gauss-Legendre quadrature,

    and M[patch] is Σ a or Σ |a| as for `input_x_gradient`. With "sum" a map sums to y(x) - y(0), up to quadrature.

    Args:
        recording: the forward to explain, or one with no forward in it yet.
        reduction: "sum" or "abs".
        steps: of the quadrature.

    Returns:
        A function from targets (B, T) to heatmaps (B, T, h, w), float32, in units of the logit. Each target costs
        `steps` forward and backward passes, each of one batch, so that memory does not grow with `steps`.

    Raises:
        InputError: for an unknown reduction, steps below 1, or where Captum is not installed.
        ModelError: if the image does not divide into the patch grid.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"steps must be a whole number from 1 on, found {steps!r}")
    captum = _captum()

    def attribute(forward: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
        def integrate(images: Tensor, target: Tensor) -> Tensor:
            integrated: Tensor = captum.IntegratedGradients(forward).attribute(
                images, target=target, n_steps=steps, internal_batch_size=len(images)
            )
            return integrated

        return integrate

    return _attributions(recording, reduction, attribute)


def _captum() -> Any:
    try:
        return import_module("captum.attr")
    except ImportError:
        raise InputError("this method is Captum's, which is not installed: pip install 'agcam[captum]'") from None


def _attributions(
    recording: Recording, reduction: Reduction, method: Callable[[Callable[[Tensor], Tensor]], Callable[..., Tensor]]
) -> Callable[[Tensor], Tensor]:
    if reduction not in ("sum", "abs"):
        raise InputError(f"reduction must be one of sum, abs, found {reduction!r}")
    (h, w), (height, width) = recording.grid, recording.images.shape[-2:]
    if height % h or width % w:
        raise ModelError(
            f"{recording.anatomy.name} pads its images: {height}×{width} pixels do not divide into {h}×{w} patches; "
            "use agcam, or images that do"
        )
    with with_gradients(recording) as convert, torch.no_grad():
        logits = run(recording, Explicit(convert))

    def forward(images: Tensor) -> Tensor:
        # the images along the way are not the recorded ones: neither are their logits
        return run(Recording(recording.anatomy, images, grid=recording.grid), Explicit(convert))

    def heatmaps(targets: Tensor) -> Tensor:
        with with_gradients(recording):
            images = recording.images.detach().clone().to(logits.dtype).requires_grad_()
            found = [method(forward)(images, target=target).detach() for target in targets.unbind(1)]
        pixels = torch.stack(found, 1).sum(2) if reduction == "sum" else torch.stack(found, 1).abs().sum(2)
        patch = (height // h, width // w)
        return F.avg_pool2d(pixels, patch).float() * (patch[0] * patch[1])

    return heatmaps
