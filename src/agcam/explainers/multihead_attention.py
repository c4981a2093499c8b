"""PyTorch's own `nn.MultiheadAttention`, which hides its attention from function modes, made visible to them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from agcam.errors import ModelError
from agcam.explainers.own_thread import answered


def visible_attention(module: nn.MultiheadAttention) -> AbstractContextManager[None]:
    """Compute `module` as projections and one `scaled_dot_product_attention`, in this thread."""
    return answered(module, "forward", partial(_attend, module))


def _attend(
    module: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, None]:
    """Do what `nn.MultiheadAttention.forward` does; its weights are None."""
    found = {
        "a padding mask": key_padding_mask is not None,
        "a causal mask": is_causal,
        "learned biases of keys": module.bias_k is not None or module.add_zero_attn,
        "tensors without a batch": query.dim() != 3,
    }
    if refused := [name for name, there in found.items() if there]:
        raise ModelError(f"agcam explains nn.MultiheadAttention without {refused[0]}; this one is called with it")
    if not module.batch_first:
        same = key is query and value is query
        query = query.transpose(0, 1)
        key, value = (query, query) if same else (key.transpose(0, 1), value.transpose(0, 1))
    batch, length, width = query.shape
    heads = module.num_heads

    def by_head(tokens: Tensor) -> Tensor:
        return tokens.reshape(batch, -1, heads, width // heads).transpose(1, 2)

    q, k, v = (by_head(tokens) for tokens in _project(module, query, key, value))
    dropout = module.dropout if module.training else 0.0
    mask = None if attn_mask is None else _additive(attn_mask, batch, q)
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    output = module.out_proj(output.transpose(1, 2).reshape(batch, length, width))
    return (output if module.batch_first else output.transpose(0, 1)), None


def _project(module: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
    bias = module.in_proj_bias
    if module._qkv_same_embed_dim and query is key and key is value:
        return F.linear(query, module.in_proj_weight, bias).chunk(3, dim=-1)
    if module._qkv_same_embed_dim:
        weights = module.in_proj_weight.chunk(3)
    else:
        weights = module.q_proj_weight, module.k_proj_weight, module.v_proj_weight
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    return tuple(F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))


def _additive(mask: Tensor, batch: int, query: Tensor) -> Tensor:
    """Turn a mask (N, S) or (B·h, N, S), whose boolean form says where attention may not go, into a term of scores."""
    if mask.dim() == 3:
        mask = mask.reshape(batch, -1, *mask.shape[1:])
    if not mask.is_floating_point():
        mask = query.new_zeros(mask.shape).masked_fill_(mask.bool(), float("-inf"))
    return mask
