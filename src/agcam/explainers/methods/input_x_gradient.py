"""Input × gradient (Shrikumar et al., 2016, arXiv 1605.01713), by Captum."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from agcam.explainers.captum_attribution import Reduction, attribute_by, import_captum
from agcam.explainers.recording import Recording
from agcam.explainers.registry import register_method


@register_method(
    needs="forward", signed=True, help="The gradient of the class with respect to each pixel, times the pixel."
)
def input_x_gradient(recording: Recording, *, reduction: Reduction = "sum") -> Callable[[Tensor], Tensor]:
    """Multiply each pixel by its gradient, sum over each patch (Shrikumar et al., 2016, arXiv 1605.01713).

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
    captum = import_captum()
    return attribute_by(recording, reduction, lambda forward: captum.InputXGradient(forward).attribute)
