"""Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391) on ViTs: on the last attention, on a block's tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from agcam.errors import InputError, ModelError
from agcam.explainers.eager_attention import Explicit
from agcam.explainers.eager_forward import (
    check_calls,
    check_class_token,
    each_gradient,
    on_patches,
    run,
    with_gradients,
)
from agcam.explainers.recorder import Recording
from agcam.explainers.replay import replay


def attention_gradcam(recording: Recording, targets: Tensor) -> Tensor:
    """Grad-CAM on the class token's row of the last attention, as Chefer et al. (CVPR 2021) compare with.

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
    check_class_token(recording.anatomy, "attention_gradcam")
    with replay(recording) as tape:
        check_calls(recording, len(recording.calls), "attention_gradcam")
        last, output = recording.calls[-1], tape.outputs[-1]
        gradients = torch.stack([by for (by,) in each_gradient(tape.logits, targets, [output])], 1)
    with torch.no_grad():
        value = last.value.to(gradients.dtype).unsqueeze(1)
        weights = on_patches(recording, (gradients @ value.mT).squeeze(3)).mean((-2, -1), keepdim=True)
        row = on_patches(recording, last.scores().to(gradients.dtype).softmax(-1).squeeze(2)).unsqueeze(1)
        return (weights * row).mean(2).relu()


def gradcam(recording: Recording, *, block: int = -1) -> Callable[[Tensor], Tensor]:
    """Grad-CAM on the tokens of one block, after its first norm: the usual layer for ViTs in pytorch-grad-cam.

    With x (patches, D) the output of `norm1` of the block and w = mean over patches of ∂y / ∂x,

        M = ReLU(x · w).

    pytorch-grad-cam scales each such map to [0, 1] and enlarges it; this is the map before.

    Args:
        recording: the forward to explain, or one with no forward in it yet. The model is run once.
        block: its number; negative from the last.

    Returns:
        A function from targets (B, T) to heatmaps (B, T, h, w), float32, ≥ 0, in units of the logit. Each target costs
        a backward pass down to the block.

    Raises:
        InputError: if there is no such block.
        ModelError: if the block has no `norm1`, or its tokens are not the patches.
    """
    backbone: Any = recording.anatomy.backbone
    name, count = recording.anatomy.name, len(backbone.blocks)
    if isinstance(block, bool) or not isinstance(block, int) or not -count <= block < count:
        raise InputError(f"block must be a number from {-count} to {count - 1} for {name}, found {block!r}")
    norm = getattr(backbone.blocks[block], "norm1", None)
    if not isinstance(norm, nn.Module):
        raise ModelError(
            f"gradcam reads the norm1 of a block, block {block} of {name} is a {type(backbone.blocks[block]).__name__} "
            "without; use agcam"
        )
    tokens: list[Tensor] = []

    def cut(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        tokens.append(output.detach().clone().requires_grad_())
        return tokens[-1]

    with with_gradients(recording) as convert:
        handle = norm.register_forward_hook(cut)
        try:
            logits = run(recording, Explicit(convert))
        finally:
            handle.remove()

    def heatmaps(targets: Tensor) -> Tensor:
        prefix = recording.anatomy.num_prefix_tokens
        with with_gradients(recording):
            (x,) = tokens
            weights = [by[:, prefix:].mean(1) for (by,) in each_gradient(logits, targets, tokens)]
            found = (x.detach() @ torch.stack(weights, -1)).mT
            return on_patches(recording, found).relu()

    return heatmaps
