"""Integrated gradients (Sundararajan et al., ICML 2017, arXiv 1703.01365), by Captum."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from agcam.errors import InputError
from agcam.explainers.captum_attribution import Reduction, attribute_by, import_captum
from agcam.explainers.recording import Recording
from agcam.explainers.registry import register_method


@register_method(needs="forward", signed=True, help="Gradients collected on the way from a blank picture to this one.")
def integrated_gradients(
    recording: Recording, *, reduction: Reduction = "sum", steps: int = 50
) -> Callable[[Tensor], Tensor]:
    """Integrate gradients, sum them over each patch (Sundararajan et al., ICML 2017, arXiv 1703.01365).

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
    captum = import_captum()

    def attribute(forward: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
        def integrate(images: Tensor, target: Tensor) -> Tensor:
            integrated: Tensor = captum.IntegratedGradients(forward).attribute(
                images, target=target, n_steps=steps, internal_batch_size=len(images)
            )
            return integrated

        return integrate

    return attribute_by(recording, reduction, attribute)
