"""LeGrad (Bousselham et al.): how sensitive each layer's own prediction is to its attention."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch import Tensor, nn

from agcam.errors import InputError
from agcam.evaluating import evaluating
from agcam.explainers.class_token import check_calls, check_class_row, check_class_token, read_rows
from agcam.explainers.differentiable import DifferentiableMode, needs_conversion
from agcam.explainers.eager_attention import EagerAttention
from agcam.explainers.eager_forward import eager_forward, with_gradients
from agcam.explainers.lean_forward import record_lean
from agcam.explainers.own_thread import after_forward, before_forward
from agcam.explainers.patch_grid import on_patches
from agcam.explainers.recording import Recording
from agcam.explainers.registry import register_method
from agcam.explainers.replay import logits_of_rows, replay
from agcam.explainers.self_check import check_classes
from agcam.explainers.skip_gradients import gradients_by_attention

Readout = Literal["mean", "class"]


@register_method(needs="forward", help="Gradients of the attention, summed over layers (Bousselham et al. 2024).")
def legrad(recording: Recording, *, readout: Readout = "mean") -> Callable[[Tensor], Tensor]:
    """Average the gradients of each block's own prediction: LeGrad (Bousselham et al., ICCV 2025, arXiv 2404.03214).

    Each block k is read by the ViT's own final norm and all that the model does after it, which give it logits s_k.
    With A_k its attention,

        E_k = mean over heads h and query rows i of (∂s_k / ∂A_k[h, i, :])⁺,
        M = mean over blocks of E_k,    patch columns only.

    No gradient passes from one block to another. The authors scale M to [0, 1] in the end; this is the map before.

    With the class token's readout only row i of the class token matters, and no block needs the others: E_k comes from
    a replay of that row, as in `agcam`, at the price of about a forward.

    Args:
        recording: the forward to explain, or one with no forward in it yet. The model is run once.
        readout: what norm and head are given of a block's tokens: "mean", the average of all of them, as for the
            class-token models of the authors' code; "class", the class token, as the model's own head reads it.

    Returns:
        A function from targets (B, T) to heatmaps (B, T, h, w), float32, ≥ 0, in units of the logit. With "mean" each
        target costs a backward pass through the MLPs.

    Raises:
        InputError: for an unknown readout.
        ModelError: if the model has no class token that runs through all blocks with one attention each.
    """
    if readout not in ("mean", "class"):
        raise InputError(f"readout must be one of mean, class, found {readout!r}")
    parts = recording.parts
    check_class_token(parts, "legrad")
    if readout == "class":
        return _of_class_token(recording)
    rows: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...], output: Any) -> None:
        tokens = output[0] if isinstance(output, tuple) else output
        rows.append(tokens.mean(1, keepdim=True))

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


def _of_class_token(recording: Recording) -> Callable[[Tensor], Tensor]:
    if not recording.has_forward:
        found = record_lean(recording.model, recording.images, recording.reader, recording.vit)
        vars(recording).update(vars(found))
    check_classes(recording, "legrad")
    check_class_row(recording, "legrad")
    row, rows = read_rows(recording), list[Tensor]()
    check_calls(row, len(row.calls), "legrad")

    def keep(_: nn.Module, args: tuple[Tensor, ...], output: Any) -> None:
        rows.append((output[0] if isinstance(output, tuple) else output)[:, :1])

    def detach(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0].detach(), *args[1:])

    with ExitStack() as hooks:
        for block in row.parts.blocks:
            hooks.callback(before_forward(block, detach).remove)
            hooks.callback(after_forward(block, keep).remove)
        with replay(row) as tape, DifferentiableMode(needs_conversion(row)):
            hooks.close()  # reading the rows runs blocks, too
            scores = [logits_of_rows(row, output) for output in rows]

    def heatmaps(targets: Tensor) -> Tensor:
        with with_gradients(recording):
            values = [call.value for call in row.calls]
            chosen = torch.stack([score.gather(1, targets) for score in scores]).sum(0)
            chunks = gradients_by_attention(chosen, tape.outputs, values)
            # of all query rows, the others of which have no gradient
            found = [torch.stack([g.relu().mean(2).sum(2) / g.shape[-1] for g in chunk]).mean(0) for chunk in chunks]
            return on_patches(recording, torch.cat(found).transpose(0, 1))

    return heatmaps


def _columns(scores: list[Tensor], matrices: list[Tensor], target: Tensor) -> Tensor:
    """Make M (B, N) of one target (B,) for each image."""
    found = []
    for score, matrix in zip(scores, matrices, strict=True):
        chosen = score.gather(1, target[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, matrix, retain_graph=True)
        found.append(gradient.relu().mean((1, 2)))
    return torch.stack(found).mean(0)
