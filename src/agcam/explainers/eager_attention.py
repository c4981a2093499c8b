"""∂y / ∂A through the whole network: the ablation of AG-CAM in which attention passes gradients on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from agcam.explainers.recorder import Recording, additive, repeated_heads
from agcam.explainers.replay import (
    check_logits,
    differentiable,
    differentiable_arguments,
    explaining_failures,
    needs_conversion,
    working_dtype,
)
from agcam.explainers.vit_parts import traceable


class Explicit(TorchFunctionMode):
    """Computes attention by its definition, and keeps each matrix A from the moment that `listen` is called."""

    def __init__(self, convert: bool) -> None:
        super().__init__()
        self.convert = convert
        self.listening = False
        self.matrices: list[Tensor] = []

    def listen(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        """A forward pre-hook."""
        self.listening = True

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, attention step by step."""
        kwargs = kwargs or {}
        if self.convert:
            args, kwargs = differentiable_arguments(args, kwargs)
        return (self._attend if func is F.scaled_dot_product_attention else func)(*args, **kwargs)

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
        if enable_gqa:
            key, value = repeated_heads(query, key, value)
        # the scale goes to the query: it has fewer elements than the scores
        query = query * (query.shape[-1] ** -0.5 if scale is None else scale)
        scores = query @ key.transpose(-2, -1)
        if attn_mask is not None:
            scores = scores + additive(attn_mask, scores.dtype)
        matrix = scores.softmax(-1)
        if self.listening:
            self.keep(query, key, value, matrix)
        return matrix @ value

    def keep(self, query: Tensor, key: Tensor, value: Tensor, matrix: Tensor) -> None:
        """Keep what is needed of one attention call: query (scaled), key and value (B, h, N, d), A (B, h, N, N)."""
        # with a frozen model nothing before the first matrix requires grad
        self.matrices.append(matrix if matrix.requires_grad else matrix.requires_grad_())


@contextmanager
def full_gradients(recording: Recording, targets: Tensor, used: list[int]) -> Iterator[Iterator[list[Tensor]]]:
    """∂y / ∂A of a second, ordinary forward in which nothing is detached.

    Args:
        recording: of the first forward.
        targets: (B, T) int64 class indices.
        used: numbers of the attention calls to differentiate by.

    Yields:
        For each of the T targets in turn: for each used call, (1, B, h, R, N).

    Raises:
        ModelError: if the second forward does not reproduce the logits of the first.
    """
    anatomy = recording.anatomy
    mode = Explicit(needs_conversion(anatomy.backbone))
    with differentiable(recording), traceable(anatomy):
        images = recording.images.clone().to(working_dtype(recording))
        handle = anatomy.blocks[0].register_forward_pre_hook(mode.listen)
        try:
            with mode, explaining_failures(recording):
                logits = anatomy.backbone(images)
        finally:
            handle.remove()
        check_logits(recording, logits)
        chosen, matrices = logits.gather(1, targets), [mode.matrices[call] for call in used]
        yield (
            [
                gradient[None, :, :, anatomy.rows]
                for gradient in torch.autograd.grad(chosen[:, t].sum(), matrices, retain_graph=True)
            ]
            for t in range(targets.shape[1])
        )
