"""Chefer et al.'s transformer attribution (CVPR 2021): roll out relevance that is weighted by gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import Mlp
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import Tensor, nn

from agcam.errors import ModelError
from agcam.explainers.class_token import check_calls, check_class_row, check_class_token
from agcam.explainers.eager_attention import EagerAttention
from agcam.explainers.eager_forward import eager_forward, with_gradients
from agcam.explainers.own_thread import after_forward
from agcam.explainers.patch_grid import on_patches
from agcam.explainers.recording import Recording
from agcam.explainers.registry import register_method
from agcam.explainers.relevance import BlockParts, BlockRelevance, LinearRelevance
from agcam.explainers.self_check import check_classes
from agcam.explainers.vit_parts import ViTParts, unwrap


@register_method(needs="forward", help="Relevance propagated backwards through the network (Chefer et al. 2021).")
def lrp(recording: Recording) -> Callable[[Tensor], Tensor]:
    """Propagate relevance, weight it by gradients, roll it out (Chefer, Gur, Wolf, CVPR 2021, arXiv 2012.09838).

    The authors' `transformer_attribution` with alpha 1 and start layer 0.

    Relevance R starts as 1 at the logit y and is handed down to the inputs of every operation:

    - linear layers by z⁺ (alpha 1, beta 0): R_i = Σ_j R_j · z⁺_ij / Σ_i z⁺_ij, z⁺ the positive x_i · w_ij;
    - a sum by contribution: the two shares are R ⊙ a / (a + b) and R ⊙ b / (a + b), then each is scaled so that their
      sums over all tokens and channels are as |Σ share|, together ΣR;
    - a product of two matrices by contribution, half of it to each factor;
    - softmax, GELU, LayerNorm and layer scale hand it on as it is.

    Of a model with its own linear head after the ViT, and of a score, R at the head is the gradient of y by the head's
    output: 1 at the class for a logit.

    With R_k the relevance of the attention matrix A_k of block k,

        C_k = mean over heads of (R_k ⊙ ∂y / ∂A_k)⁺,        r = e_cls · (C_K + I) · … · (C_1 + I),

    patch columns only; the authors' code does not scale the rows. The published method is one image and one class at a
    time; here the forward, its quotients and each step of the way down are those of the whole batch.

    Where the terms of a sum or product nearly cancel, their shares are huge: some maps are ill-conditioned, and float32
    then leaves few digits of them. A model in float64 has the map of the equations.

    Layer-wise relevance propagation is encumbered by patents; its inventors allow scientific and personal use.
    Ask a lawyer before you put it into a product.

    Args:
        recording: the forward to explain, or one with no forward in it yet. The model is run once.

    Returns:
        A function from targets (B, T) to heatmaps (B, T, h, w), float32, ≥ 0. Each target costs
        a backward pass and one way down.

    Raises:
        ModelError: for models other than the plain pre-norm `VisionTransformer` of timm with a class token.
    """
    steps = _plain_blocks(recording.parts)
    with with_gradients(recording) as convert:
        mode = _Operands(convert)
        seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        backbone: Any = recording.parts.backbone
        linear = [module for module in recording.model.modules() if isinstance(module, nn.Linear)]
        with _watching([*(module for step in steps for module in step.modules()), *linear, backbone.norm], seen):
            logits = eager_forward(recording, mode)
        check_classes(recording, "lrp")
        check_class_row(recording, "lrp")
        check_calls(recording, len(mode.matrices), "lrp")
        head = _find_head(recording, seen, logits)
        _check_only_way(recording, head, seen[backbone.norm][1], logits)
        blocks = [
            BlockRelevance(step, seen, operands, matrix)
            for step, operands, matrix in zip(steps, mode.operands, mode.matrices, strict=True)
        ]

    def heatmaps(targets: Tensor) -> Tensor:
        with with_gradients(recording):
            found = [_class_row(blocks, head, logits, target) for target in targets.unbind(1)]
            return torch.stack([on_patches(recording, row) for row in found], 1)

    return heatmaps


def _class_row(blocks: list[BlockRelevance], head: _Head, logits: Tensor, target: Tensor) -> Tensor:
    """Make the row r (B, N) of one target (B,) for each image, from the last block to the first."""
    chosen = logits.gather(1, target[:, None]).sum()
    by_head, *gradients = torch.autograd.grad(chosen, [head.out, *(b.matrix for b in blocks)], retain_graph=True)
    with torch.no_grad():
        relevance = head.linear.down(by_head.unsqueeze(1))
        row = logits.new_zeros(len(logits), gradients[0].shape[-1])
        row[:, 0] = 1
        for block, gradient in zip(reversed(blocks), reversed(gradients), strict=True):
            by_matrix, relevance = block.down(relevance, further=block is not blocks[0])
            # above the last attention only the class token is relevant: its row is all there is
            rows = by_matrix.shape[2]
            combined = (by_matrix * gradient[:, :, :rows]).clamp_(min=0).mean(1)
            row = row + (row[:, None, :rows] @ combined).squeeze(1)
        return row


@dataclass(frozen=True)
class _Head:
    """The linear layer from the class token's features to the logits: its call, and its output (B, C) in the graph."""

    linear: LinearRelevance
    out: Tensor


class _Operands(EagerAttention):
    """Keeps the operands of the products of each attention."""

    def __init__(self, convert: bool) -> None:
        super().__init__(convert)
        self.operands: list[tuple[Tensor, Tensor, Tensor]] = []

    def keep(self, query: Tensor, key: Tensor, value: Tensor, matrix: Tensor) -> None:
        """Keep query, key and value beside A."""
        super().keep(query, key, value, matrix)
        self.operands.append((query.detach(), key.detach(), value.detach()))


@contextmanager
def _watching(modules: list[nn.Module], seen: dict[nn.Module, tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Note in `seen` the input and the output of the last call of each module."""

    def see(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(output, Tensor) and args and isinstance(args[0], Tensor):
            seen[module] = args[0], output

    with ExitStack() as stack:
        for module in modules:
            stack.callback(after_forward(module, see).remove)
        yield


def _find_head(recording: Recording, seen: dict[nn.Module, tuple[Tensor, Tensor]], logits: Tensor) -> _Head:
    """Find the linear layer that was given the features of the class token, the ViT's own or one after it."""
    backbone: Any = recording.parts.backbone
    own = backbone.head
    if type(own) is nn.Linear and own in seen:
        found = [own]
    else:
        pooled = seen[backbone.norm][1][:, 0]
        outside = set(seen) - set(backbone.modules())
        heads = [layer for layer in outside if type(layer) is nn.Linear and torch.equal(seen[layer][0], pooled)]
        # of several tasks' heads, the one that is explained
        found = [layer for layer in heads if _reaches(seen[layer][1], logits)]
    if len(found) != 1:
        raise _refusal(recording.parts, f"is followed by {len(found)} linear layers on its class token, not by one")
    x, y = seen[found[0]]
    return _Head(LinearRelevance(found[0], x.unsqueeze(1), y.unsqueeze(1)), y)


def _reaches(tensor: Tensor, logits: Tensor) -> bool:
    return torch.autograd.grad(logits.sum(), tensor, retain_graph=True, allow_unused=True)[0] is not None


def _check_only_way(recording: Recording, head: _Head, tokens: Tensor, logits: Tensor) -> None:
    """Raise `ModelError` unless the model reads its class token through the head alone: there are rules for no more."""
    if not recording.own_head:
        return
    for score in logits.sum(0):
        by_head, by_tokens = torch.autograd.grad(score, [head.out, tokens], retain_graph=True, allow_unused=True)
        if by_head is None or by_tokens is None:
            raise _refusal(recording.parts, "is not read by a linear head")
        expected = by_head @ head.linear.weight
        if not bool((by_tokens[:, 0] - expected).abs().max() <= 1e-4 * expected.abs().max() + 1e-12):
            raise _refusal(recording.parts, "is read by more than a linear head")


def _plain_blocks(parts: ViTParts) -> list[BlockParts]:
    """Find the parts of each block; raise `ModelError` for a model that has more to it than the rules are made for."""
    check_class_token(parts, "lrp")
    backbone = parts.backbone
    if type(backbone) is not VisionTransformer:
        raise _refusal(parts, f"is a {type(backbone).__name__}")
    if type(backbone.head) not in (nn.Linear, nn.Identity):
        raise _refusal(parts, f"has a head of type {type(backbone.head).__name__}")
    return [_inspect_block(parts, number, unwrap(block)) for number, block in enumerate(parts.blocks)]


def _inspect_block(parts: ViTParts, number: int, block: Any) -> BlockParts:
    if type(block) is not Block or type(block.attn) is not Attention or type(block.mlp) is not Mlp:
        kinds = [type(block).__name__] + [type(getattr(block, name, None)).__name__ for name in ("attn", "mlp")]
        raise _refusal(parts, f"has a {kinds[0]} with {kinds[1]} and {kinds[2]} as block {number}")
    if getattr(block.attn, "gate", None) is not None:
        raise _refusal(parts, f"has gated attention in block {number}")
    layers = {"qkv": block.attn.qkv, "proj": block.attn.proj, "fc1": block.mlp.fc1, "fc2": block.mlp.fc2}
    for name, layer in layers.items():
        if type(layer) is not nn.Linear:
            raise _refusal(parts, f"has a {type(layer).__name__} as {name} of block {number}; merge adapters first")
    return BlockParts(block, block.ls1, block.norm2, block.ls2, **layers)


def _refusal(parts: ViTParts, found: str) -> ModelError:
    return ModelError(
        f"lrp has rules for timm's plain VisionTransformer (vit, deit, deit3, dinov2), {parts.name} {found}; "
        "use agcam or raw_attention"
    )
