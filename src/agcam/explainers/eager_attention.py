"""Attention computed by its definition, so that every matrix A is there to look at and to differentiate by."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from agcam.errors import ModelError
from agcam.explainers.differentiable import DifferentiableMode
from agcam.explainers.recorder import additive, repeated_heads


def attention_matrix(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, scale: float | None, enable_gqa: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return query (scaled), key and value (B, h, N, d) and the attention matrix A (B, h, N, N) of a call.

    The arguments are those of `scaled_dot_product_attention`.
    """
    if enable_gqa:
        key, value = repeated_heads(query, key, value)
    # the scale goes to the query: it has fewer elements than the scores
    query = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    scores = query @ key.transpose(-2, -1)
    if attn_mask is not None:
        scores = scores + additive(attn_mask, scores.dtype)
    return query, key, value, scores.softmax(-1)


class EagerAttention(DifferentiableMode):
    """Computes attention step by step, and keeps each matrix A while it listens."""

    def __init__(self, convert: bool) -> None:
        super().__init__(convert)
        self.listening = False
        self.matrices: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, attention step by step."""
        attention = func is F.scaled_dot_product_attention
        return super().__torch_function__(self._attend if attention else func, types, args, kwargs)

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        query, key, value, matrix = attention_matrix(query, key, value, attn_mask, scale, enable_gqa)
        if self.listening:
            self.keep(query, key, value, matrix)
        return matrix @ value

    def keep(self, query: Tensor, key: Tensor, value: Tensor, matrix: Tensor) -> None:
        """Keep what is needed of one attention call: query (scaled), key and value (B, h, N, d), A (B, h, N, N)."""
        if matrix.is_inference():
            raise ModelError(
                "the model runs its ViT under torch.inference_mode, through which no gradient passes; take it out, or "
                "use torch.no_grad in its place, which agcam overrules"
            )
        # with a frozen model nothing before the first matrix requires grad
        self.matrices.append(matrix if matrix.requires_grad else matrix.requires_grad_())
