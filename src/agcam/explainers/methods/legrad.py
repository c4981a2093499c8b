"""LeGrad (Bousselham et al.): how sensitive each layer's own prediction is to its attention."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch import Tensor, nn

from agcam.errors import InputError
from agcam.evaluating import evaluating
from agcam.explainers.class_token import check_calls, check_class_row, check_class_token
from agcam.explainers.differentiable import DifferentiableMode
from agcam.explainers.eager_attention import EagerAttention
from agcam.explainers.eager_forward import eager_forward, with_gradients
from agcam.explainers.own_thread import after_forward
from agcam.explainers.patch_grid import on_patches
from agcam.explainers.recording import Recording
from agcam.explainers.registry import register_method
from agcam.explainers.replay import logits_of_rows
from agcam.explainers.self_check import check_classes

Readout = Literal["mean", "class"]


@register_method(needs="forward", help="Gradients of the attention, summed over layers (Bousselham et al. 2024).")
def legrad(recording: Recording, *, readout: Readout = "mean") -> Callable[[Tensor], Tensor]:
    """Average the gradients of each block's own prediction: LeGrad (Bousselham et al., ICCV 2025, arXiv 2404.03214).

    Each block k is read by the ViT's own final norm and all that the model does after it, which give it logits s_k.
    With A_k its attention,

        E_k = mean over heads h and query rows i of (∂s_k / ∂A_k[h, i, :])⁺,
        M = mean over blocks of E_k,    patch columns only.

    No gradient passes from one block to another. The authors scale M to [0, 1] in the end; this is the map before.

    Args:
        recording: the forward to explain, or one with no forward in it yet. The model is run once.
        readout: what norm and head are given of a block's tokens: "mean", the average of all of them, as for the
            class-token models of the authors' code; "class", the class token, as the model's own head reads it.

    Returns:
        A function from targets (B, T) to heatmaps (B, T, h, w), float32, ≥ 0, in units of the logit. Each target
        costs a backward pass through the MLPs.

    Raises:
        InputError: for an unknown readout.
        ModelError: if the model has no class token that runs through all blocks with one attention each.
    """
    if readout not in ("mean", "class"):
        raise InputError(f"readout must be one of mean, class, found {readout!r}")
    parts = recording.parts
    check_class_token(parts, "legrad")
    rows: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...], output: Any) -> None:
        tokens = output[0] if isinstance(output, tuple) else output
        rows.append(tokens.mean(1, keepdim=True) if readout == "mean" else tokens[:, :1])

    with with_gradients(recording) as convert, ExitStack() as stack:
        mode = EagerAttention(convert)
        for block in parts.blocks:
            stack.callback(after_forward(block, keep).remove)
        eager_forward(recording, mode)
        stack.close()
        check_classes(recording, "legrad")
        check_class_row(recording, "legrad")
        check_calls(recording, len(mode.matrices), "legrad")
        with DifferentiableMode(convert), evaluating(recording.model):
            scores = [logits_of_rows(recording, row) for row in rows]

    def heatmaps(targets: Tensor) -> Tensor:
        with with_gradients(recording):
            found = [_columns(scores, mode.matrices, target) for target in targets.unbind(1)]
            return torch.stack([on_patches(recording, columns) for columns in found], 1)

    return heatmaps


def _columns(scores: list[Tensor], matrices: list[Tensor], target: Tensor) -> Tensor:
    """Make M (B, N) of one target (B,) for each image."""
    found = []
    for score, matrix in zip(scores, matrices, strict=True):
        chosen = score.gather(1, target[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, matrix, retain_graph=True)
        found.append(gradient.relu().mean((1, 2)))
    return torch.stack(found).mean(0)
