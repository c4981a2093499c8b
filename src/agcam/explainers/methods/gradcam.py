"""Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391) on the tokens of a block."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from agcam.errors import InputError, ModelError
from agcam.explainers.eager_attention import EagerAttention
from agcam.explainers.eager_forward import each_gradient, eager_forward, with_gradients
from agcam.explainers.own_thread import after_forward
from agcam.explainers.patch_grid import on_patches
from agcam.explainers.recording import Recording
from agcam.explainers.registry import register_method
from agcam.explainers.vit_parts import first_norm


@register_method(needs="forward", help="Grad-CAM on the patches of a late layer.")
def gradcam(recording: Recording, *, block: int = -1) -> Callable[[Tensor], Tensor]:
    """Apply Grad-CAM to the tokens of one block, after its first norm: the usual layer for ViTs in pytorch-grad-cam.

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
    name, layers = recording.parts.name, recording.parts.all_layers
    count = len(layers)
    if isinstance(block, bool) or not isinstance(block, int) or not -count <= block < count:
        raise InputError(f"block must be a number from {-count} to {count - 1} for {name}, found {block!r}")
    norm = first_norm(layers[block])
    if norm is None:
        raise ModelError(
            f"gradcam reads the norm1 of a block, block {block} of {name} is a {type(layers[block]).__name__} "
            "without; use agcam"
        )
    tokens: list[Tensor] = []

    def cut(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        tokens.append(output.detach().clone().requires_grad_())
        return tokens[-1]

    with with_gradients(recording) as convert:
        handle = after_forward(norm, cut)
        try:
            logits = eager_forward(recording, EagerAttention(convert))
        finally:
            handle.remove()

    def heatmaps(targets: Tensor) -> Tensor:
        prefix = recording.parts.num_prefix_tokens
        with with_gradients(recording):
            (x,) = tokens
            weights = [by[:, prefix:].mean(1) for (by,) in each_gradient(logits, targets, tokens)]
            found = (x.detach() @ torch.stack(weights, -1)).mT
            return on_patches(recording, found).relu()

    return heatmaps
