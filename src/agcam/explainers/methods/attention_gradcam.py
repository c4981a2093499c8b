"""Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391) on the last attention."""

from __future__ import annotations

import torch
from torch import Tensor

from agcam.explainers.class_token import check_calls, check_class_row, check_class_token
from agcam.explainers.eager_forward import each_gradient
from agcam.explainers.patch_grid import on_patches
from agcam.explainers.recording import Recording
from agcam.explainers.registry import register_method
from agcam.explainers.replay import replay


@register_method(help="Grad-CAM on the class token's attention in the last layer.")
def attention_gradcam(recording: Recording, targets: Tensor) -> Tensor:
    """Apply Grad-CAM to the class token's row of the last attention, as Chefer et al. (CVPR 2021) compare with.

    With a_h = A[cls, patches] of head h in the last block and α_h = mean over patches of ∂y / ∂a_h,

        M = ReLU(mean over heads of α_h · a_h).

    Above the last attention there is no other, so its gradient is that of the recorded rows: no second forward.

    Args:
        recording: the forward to explain.
        targets: (B, T) int64 class indices.

    Returns:
        Heatmaps (B, T, h, w), float32, ≥ 0, in units of the logit.

    Raises:
        ModelError: if the model has no class token that runs through all blocks with one attention each.
    """
    if recording.own_head or recording.parts.runs_itself:
        check_class_row(recording, "attention_gradcam")
    check_class_token(recording.parts, "attention_gradcam")
    with replay(recording) as tape:
        check_calls(recording, len(recording.calls), "attention_gradcam")
        last, output = recording.calls[-1], tape.outputs[-1]
        gradients = torch.stack([by for (by,) in each_gradient(tape.logits, targets, [output])], 1)
    with torch.no_grad():
        value = last.value.to(gradients.dtype).unsqueeze(1)
        weights = on_patches(recording, (gradients @ value.mT).squeeze(3)).mean((-2, -1), keepdim=True)
        row = on_patches(recording, last.scores().to(gradients.dtype).softmax(-1).squeeze(2)).unsqueeze(1)
        return (weights * row).mean(2).relu()
