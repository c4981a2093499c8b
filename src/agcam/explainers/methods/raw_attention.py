"""The class token's attention as it is (Fig. 1 of Leem & Seo, AAAI 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from agcam.explainers.chosen import Chosen, choose
from agcam.explainers.differentiable import working_dtype
from agcam.explainers.patch_grid import on_patches
from agcam.explainers.recording import Recording
from agcam.explainers.registry import register_method
from agcam.explainers.self_check import mismatch


@register_method(class_specific=False, help="The attention of the class token, summed over layers.")
def raw_attention(recording: Recording, targets: Tensor, *, layers: Chosen = None, heads: Chosen = None) -> Tensor:
    """Sum the attention of the class token over layers and heads (Fig. 1 of Leem & Seo, AAAI 2024).

    With A = softmax(Q·Kᵀ/√d) of block k and head h,

        M = Σ_k Σ_h Σ_i A[i, :],    patch columns only,

    where i is the class token; as in `agcam`, both tokens of a distilled DeiT, all tokens for a model that pools
    over them, the latent query of an attention pooling. Read from the recorded forward: costs next to nothing.

    Args:
        recording: the forward to explain.
        targets: (B, T); the map is the same for each.
        layers: the blocks k to sum over, such as -1 for the last, [0, 1] or `slice(6, None)`; None for all. Where a
            block makes several attention calls, each counts as a layer.
        heads: the heads h of each; None for all. One head of one layer is that head's attention.

    Returns:
        Heatmaps (B, T, h, w), float32; each head of each block hands out 1, so a map sums to at most their number
        times that of the rows i.

    Raises:
        InputError: for layers or heads that are not there.
        ModelError: if the attention of the model cannot be read.
    """
    if not recording.calls:
        raise mismatch(recording, "it made no scaled_dot_product_attention call between its first block and its head")
    with torch.no_grad():
        name, count = recording.parts.name, recording.calls[0].output.shape[1]
        called = choose("layers", layers, len(recording.calls), f"layers of {name}")
        chosen = choose("heads", heads, count, f"heads of {name}")
        rows = (recording.calls[call].scores() for call in called)
        rows = rows if heads is None else (scores[:, chosen] for scores in rows)
        dtype = working_dtype(recording.calls[0].output)
        found = torch.stack([on_patches(recording, scores.softmax(-1, dtype).sum((1, 2))) for scores in rows]).sum(0)
        return found[:, None].repeat(1, targets.shape[1], 1, 1)
