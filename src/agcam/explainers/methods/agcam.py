"""Attention-Guided CAM (Leem & Seo, AAAI 2024, arXiv 2402.04563) from a recorded forward."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from agcam.errors import InputError
from agcam.explainers.chosen import Chosen, choose
from agcam.explainers.full_gradient import full_gradients
from agcam.explainers.patch_grid import patch_columns
from agcam.explainers.recording import Recording
from agcam.explainers.registry import register_method
from agcam.explainers.self_check import mismatch
from agcam.explainers.skip_gradients import gradients_along_skips

FeatureMap = Literal["sigmoid", "softmax", "none"]
Gradient = Literal["skip", "full"]
Reduction = Literal["sum", "mean", "max"]

_REDUCTIONS: dict[str, Callable[..., Tensor]] = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}


@register_method(
    help="Attention-Guided CAM: where the attention of the class token matters for the class, from one forward pass."
)
def agcam(
    recording: Recording,
    targets: Tensor,
    *,
    feature_map: FeatureMap = "sigmoid",
    gradient: Gradient = "skip",
    layers: Chosen = None,
    heads: Chosen = None,
    head_reduction: Reduction = "sum",
    layer_reduction: Reduction = "sum",
) -> Tensor:
    """Multiply the sigmoid of the attention scores by the positive gradient of the logit: AG-CAM.

    For block k, head h and the query rows i that the head reads, with S = Q·Kᵀ/√d (+ bias) and A = softmax(S),

        L = Σ_k Σ_h Σ_i  sigmoid(S[i, :]) ⊙ ReLU(∂y / ∂A[i, :]),    patch columns only,

    where the input of every attention module is a constant. With A·V = o the gradient is
    ∂y / ∂A[i, j] = (∂y / ∂o[i]) · V[j], so no attention matrix is differentiated.

    The paper defines it for a class token: i is that token. What agcam adds where its definition does not reach:

    - Distilled DeiT: i runs over class and distillation token, which the two heads read.
    - Pooling over tokens (average, maximum): i runs over all tokens.
    - Attention pooling (SigLIP's map head): the pooling is itself an attention whose input is a constant, so the
      gradient reaches no block; the map is the pooling's own row, that of its latent query.
    - CaiT: only its class-attention blocks have a class token, and their input from below is a constant: k runs
      over `blocks_token_only`.
    - Parallel and differential attention: the attention maps of one block count as further heads.

    The other arguments are the paper's ablations; their defaults are the paper's method.

    Args:
        recording: the forward to explain.
        targets: (B, T) int64 class indices.
        feature_map: "sigmoid" as above, "softmax" for A itself, "none" for the gradient alone.
        gradient: "skip" as above; "full" lets the gradient pass through attention as well, at the price of a second
            forward and T backward passes with every attention matrix kept.
        layers: the blocks k to use, such as -1 for the last, [0, 1] or `slice(6, None)`; None for all.
        heads: the heads h of each block to use, as `layers`.
        head_reduction: "sum", "mean" or "max" over heads.
        layer_reduction: "sum", "mean" or "max" over blocks.

    Returns:
        Heatmaps (B, T, h, w), ≥ 0, on the patch grid, in units of the logit; float32, or float64 of a float64 model.
        They are differentiable if the recording keeps its graph and `gradient` is "skip".

    Raises:
        InputError: for an unknown value of an option, or layers or heads that are not there.
        ModelError: if the model cannot be explained: its forward cannot be reproduced from the recording.
    """
    _check_one_of("feature_map", feature_map, ("sigmoid", "softmax", "none"))
    _check_one_of("gradient", gradient, ("skip", "full"))
    _check_one_of("head_reduction", head_reduction, _REDUCTIONS)
    _check_one_of("layer_reduction", layer_reduction, _REDUCTIONS)
    blocks = _calls_by_block(recording, layers)
    used, maps = [call for calls in blocks for call in calls], []
    source: AbstractContextManager[Iterator[Iterable[Tensor]]]
    if gradient == "skip":
        source = gradients_along_skips(recording, lambda logits: logits.gather(1, targets), used)
    else:
        source = full_gradients(recording, targets, used)
    with source as chunks:
        for gradients in chunks:
            with nullcontext() if recording.has_graph and gradient == "skip" else torch.no_grad():
                maps.append(_combine(recording, blocks, gradients, feature_map, heads, head_reduction, layer_reduction))
    batch, count = targets.shape
    return torch.cat(maps).transpose(0, 1).reshape(batch, count, *recording.grid)


def _check_one_of(name: str, value: object, known: Collection[str]) -> None:
    if value not in tuple(known):
        raise InputError(f"{name} must be one of {', '.join(known)}, found {value!r}")


def _calls_by_block(recording: Recording, layers: Chosen) -> list[list[int]]:
    """Number the attention calls of each chosen block."""
    blocks, calls = len(recording.parts.blocks), len(recording.calls)
    if calls % blocks:
        raise mismatch(recording, f"its {blocks} blocks made {calls} attention calls, not equally many each")
    chosen = choose("layers", layers, blocks, f"blocks of {recording.parts.name}")
    each = calls // blocks
    return [list(range(block * each, (block + 1) * each)) for block in chosen]


def _combine(
    recording: Recording,
    blocks: list[list[int]],
    gradients: Iterable[Tensor],
    feature_map: FeatureMap,
    heads: Chosen,
    head_reduction: Reduction,
    layer_reduction: Reduction,
) -> Tensor:
    """Make the maps (T, B, h·w) of one chunk of targets."""
    found = iter(gradients)
    layers = []
    for calls in blocks:
        by_head = torch.cat([_head_maps(recording, call, next(found), feature_map) for call in calls], dim=2)
        if heads is not None:
            by_head = by_head[:, :, choose("heads", heads, by_head.shape[2], f"heads of {recording.parts.name}")]
        layers.append(_REDUCTIONS[head_reduction](by_head, dim=2))
    return _REDUCTIONS[layer_reduction](torch.stack(layers), dim=0)


def _head_maps(recording: Recording, number: int, gradient: Tensor, feature_map: FeatureMap) -> Tensor:
    """Make the maps (T, B, h, h·w) of each head of one attention call, summed over the query rows."""
    call = recording.calls[number]
    alpha = patch_columns(recording, gradient).relu()
    scale = torch.mul if recording.has_graph else Tensor.mul_  # autograd reads alpha again
    if feature_map == "sigmoid":
        alpha = scale(alpha, patch_columns(recording, call.scores()).to(alpha.dtype).sigmoid())
    elif feature_map == "softmax":
        alpha = scale(alpha, patch_columns(recording, call.scores().to(alpha.dtype).softmax(-1)))
    return alpha.sum(3)
