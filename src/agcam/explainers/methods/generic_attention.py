"""Generic attention-model explainability (Chefer, Gur, Wolf, ICCV 2021), the self-attention case."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from agcam.explainers.class_token import check_calls, check_class_row, check_class_token
from agcam.explainers.eager_attention import EagerAttention
from agcam.explainers.eager_forward import each_gradient, eager_forward, with_gradients
from agcam.explainers.patch_grid import on_patches
from agcam.explainers.recording import Recording
from agcam.explainers.registry import register_method


@register_method(needs="forward", help="Attention weighted by its gradient, layer by layer (Chefer et al. 2021).")
def generic_attention(recording: Recording) -> Callable[[Tensor], Tensor]:
    """Roll out attention that is weighted by its gradient (Chefer, Gur, Wolf, ICCV 2021, arXiv 2103.15679).

    With Ā_k = mean over heads of (∂y / ∂A_k ⊙ A_k)⁺, the gradient passing through all of the network,

        R = (I + Ā_K) · … · (I + Ā_1),    the class token's row, patch columns only.

    Only that row is propagated, from the last block to the first.

    Args:
        recording: the forward to explain, or one with no forward in it yet. The model is run once.

    Returns:
        A function from targets (B, T) to heatmaps (B, T, h, w), float32, ≥ 0. Each target costs a backward pass.

    Raises:
        ModelError: if the model has no class token that runs through all blocks with one attention each.
    """
    check_class_token(recording.parts, "generic_attention")
    with with_gradients(recording) as convert:
        mode = EagerAttention(convert)
        logits = eager_forward(recording, mode)
        check_class_row(recording, "generic_attention")
        check_calls(recording, len(mode.matrices), "generic_attention")

    def heatmaps(targets: Tensor) -> Tensor:
        with with_gradients(recording):
            found = [
                _class_row(mode.matrices, gradients) for gradients in each_gradient(logits, targets, mode.matrices)
            ]
            return torch.stack([on_patches(recording, row) for row in found], 1)

    return heatmaps


def _class_row(matrices: list[Tensor], gradients: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        row = torch.zeros_like(matrices[0][:, 0, 0])
        row[:, 0] = 1
        for matrix, gradient in zip(reversed(matrices), reversed(gradients), strict=True):
            weighted = (matrix * gradient).clamp_(min=0).mean(1)
            row = row + (row.unsqueeze(1) @ weighted).squeeze(1)
        return row
