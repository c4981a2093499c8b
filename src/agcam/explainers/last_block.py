"""A ViT without those rows of its last block that its head does not read: about 7 % of a forward with 12 blocks.

A head that reads the class token needs one row of the last block. Of the other tokens it needs keys and values alone;
their queries, attention outputs, projections and MLPs are what a plain forward computes for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.overrides import TorchFunctionMode

from agcam.explainers.answers import Answers
from agcam.explainers.own_thread import answered, method_of, somebody_listens
from agcam.explainers.vit_parts import ViTParts, traceable
from agcam.module_tree import all_modules


class _AttentionReachedError(Exception):
    """Ends a block's forward at its attention call, and tells the call's arguments."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.call = (args, kwargs)


class _UntilAttention(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, unless it is the attention call."""
        if func is F.scaled_dot_product_attention:
            raise _AttentionReachedError(args, kwargs or {})
        return func(*args, **(kwargs or {}))


def can_skip(model: nn.Module, parts: ViTParts) -> bool:
    """Return whether rows of the ViT's last block may be left out: nobody could see that they are missing.

    Somebody's hook in the model could. So could code that reads further rows, which is known for timm's heads alone.
    """
    if parts.head is None or parts.rows.stop is None or parts.class_attention or parts.pools_by_attention:
        return False
    inside = {id(module) for module in parts.blocks[-1].modules()}
    if sum(id(attention) in inside for attention in parts.attentions) != 1:
        return False
    return not _hooked(model)


@contextmanager
def rows_skipped(
    parts: ViTParts, wanted: Callable[[], bool] = lambda: True, guarded: bool = True, traced: bool = True
) -> Iterator[None]:
    """Leave out what is not read of the last block, in this thread; the block returns the rows that are read, and NaN.

    Args:
        parts: of a ViT for which `can_skip` holds.
        wanted: asked at each run of the block, which runs as it is where the answer is False.
        guarded: whether NaN follows the rows. A graph that is traced does without, and is compared as a whole.
        traced: whether the caller makes attention visible (`traceable`); else it is while this block runs, and the
            others attend in the way that they were told to.
    """
    block = parts.blocks[-1]
    whole = method_of(block, "forward")

    def forward(tokens: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not wanted():
            return whole(tokens, *args, **kwargs)
        with nullcontext() if traced else traceable(parts):
            return _read_rows(partial(whole, tokens, *args, **kwargs), whole, tokens, parts, guarded)

    with answered(block, "forward", forward):
        yield


def _read_rows(
    whole: Callable[[], Any], forward: Callable[[Tensor], Tensor], tokens: Tensor, parts: ViTParts, guarded: bool
) -> Tensor:
    """Return the rows that are read of the block's output, and if guarded one of NaN behind them: (B, R + 1, D)."""
    try:
        with _UntilAttention():
            output: Tensor = whole()
    except _AttentionReachedError as found:
        # not the error itself: its traceback holds this frame, and with it all tensors of the block
        args, kwargs = found.call
    else:
        return output  # it attends by no call that could be seen
    rows = parts.rows
    with Answers([_attend(rows, *args, **kwargs)], parts):
        narrow = forward(tokens[:, rows])
    # whoever reads another row finds NaN, which shows in the logits
    return torch.cat([narrow, torch.full_like(narrow[:, :1], torch.nan)], 1) if guarded else narrow


def _attend(
    rows: slice, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    """Answer an attention call for the rows alone."""
    if attn_mask is not None and attn_mask.shape[-2] > 1:
        attn_mask = attn_mask[..., rows, :]
    return F.scaled_dot_product_attention(query[:, :, rows], key, value, attn_mask, *args, **kwargs)


def _hooked(model: nn.Module) -> bool:
    """Return whether anything is called before or after some module of the model, or of all models."""
    everywhere = (torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks)
    return any(everywhere) or any(map(somebody_listens, all_modules(model)))
