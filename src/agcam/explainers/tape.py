"""The tape: what one ordinary forward of a ViT leaves behind for its explanation (DESIGN §2).

`Tape` listens to a model. Every forward through the model, whoever calls it and in whatever precision, leaves a
`Recording`: the logits, the tokens that enter the blocks, and for each attention call the score rows, values and
output rows of the tokens that the head reads. Nothing is computed twice, and no N×N matrix is kept for models
whose head reads a class token.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from agcam.errors import ModelError
from agcam.explainers.anatomy import Anatomy, dissect


@dataclass(frozen=True)
class AttentionCall:
    """One recorded attention call; R query rows that the head reads, N tokens, h heads of width d.

    Attributes:
        query: (B, h, R, d), already multiplied by the softmax scale.
        key: (B, h, N, d), or None where `class_scores` holds all that is needed.
        value: (B, h, N, d).
        output: (B, h, R, d), the attention's answer for the rows.
        bias: additive score bias broadcastable to (B, h, R, N), or None.
        class_scores: (B, h, R, N) scores before softmax, kept instead of the keys when R is small.
    """

    query: Tensor
    key: Tensor | None
    value: Tensor
    output: Tensor
    bias: Tensor | None
    class_scores: Tensor | None

    def scores(self) -> Tensor:
        """Scores before softmax of the recorded rows, (B, h, R, N)."""
        if self.class_scores is not None:
            return self.class_scores
        assert self.key is not None
        scores = self.query @ self.key.transpose(-2, -1)
        return scores if self.bias is None else scores + self.bias


@dataclass
class Recording:
    """One forward of a ViT, as far as explanations need it.

    Attributes:
        anatomy: where the model keeps its blocks, norm and head.
        images: (B, 3, H, W), as they entered the model.
        tokens: (B, R, D), the tokens that the head reads, as they entered the first block.
        calls: the attention calls in order.
        logits: (B, C).
        grid: (h, w), the patch grid.
    """

    anatomy: Anatomy
    images: Tensor
    tokens: Tensor = field(default_factory=lambda: torch.empty(0))
    calls: list[AttentionCall] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    grid: tuple[int, int] = (0, 0)

    @property
    def nbytes(self) -> int:
        """Bytes that the recording keeps alive, logits and images left out."""
        kept = [self.tokens]
        for call in self.calls:
            kept += [t for t in (call.query, call.key, call.value, call.output, call.class_scores) if t is not None]
        return sum(t.untyped_storage().nbytes() for t in kept)


class Tape(TorchFunctionMode):
    """Context manager that records the forwards of a model.

    Example:
        >>> with Tape(model) as tape, torch.inference_mode():
        ...     logits = model(images)
        >>> recording = tape.recording

    Args:
        model: a timm ViT, bare or wrapped (`ViTClassifier`, DDP, `torch.compile`).

    Raises:
        ModelError: if the model is no ViT that agcam knows how to walk.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.anatomy = dissect(model)
        self._recording: Recording | None = None
        self._listening = False
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    @property
    def recording(self) -> Recording:
        """The latest complete forward."""
        if self._recording is None or self._listening:
            raise ModelError(
                f"{self.anatomy.name}: no forward was recorded. Call the model itself inside the `with Tape(model)` "
                "block, not its blocks or `forward_features`."
            )
        return self._recording

    def __enter__(self) -> Self:
        backbone = self.anatomy.backbone
        self._handles = [
            backbone.register_forward_pre_hook(self._begin),
            backbone.register_forward_hook(self._finish),
            self.anatomy.blocks[0].register_forward_pre_hook(self._first_block),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for handle in self._handles:
            handle.remove()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`; if it is an attention call of the model being recorded, keep what replay needs."""
        out = func(*args, **(kwargs or {}))
        if self._listening and func is F.scaled_dot_product_attention and self._recording is not None:
            self._recording.calls.append(_keep(self.anatomy.rows, out, *args, **(kwargs or {})))
        return out

    def _begin(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self._recording = Recording(self.anatomy, images=args[0])
        self._listening = True

    def _first_block(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        if self._listening and self._recording is not None:
            self._recording.tokens = _own(args[0][:, self.anatomy.rows].detach())

    def _finish(self, _: nn.Module, args: tuple[Any, ...], logits: Tensor) -> None:
        assert self._recording is not None
        self._recording.logits = logits.detach()
        self._recording.grid = self.anatomy.grid(args[0])
        self._listening = False


def record(model: nn.Module, images: Tensor) -> Recording:
    """Run one evaluation-mode forward of `model` on `images` (B, 3, H, W) and return what it left on the tape."""
    with Tape(model) as tape, torch.inference_mode():
        tape.anatomy.backbone(images)
    return tape.recording


def _keep(
    rows: slice,
    output: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionCall:
    if dropout_p > 0 or is_causal:
        raise ModelError("recording needs attention without dropout and without a causal mask; call model.eval()")
    with torch.no_grad():
        if enable_gqa:
            groups = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        query = query[:, :, rows] * (query.shape[-1] ** -0.5 if scale is None else scale)
        bias = None if attn_mask is None else _bias_rows(attn_mask, rows, query.dtype)
        few_rows = 4 * query.shape[2] < query.shape[-1]
        scores = query @ key.transpose(-2, -1) if few_rows else None
        if scores is not None and bias is not None:
            scores = scores + bias
        return AttentionCall(
            query=query,
            key=None if few_rows else _own(key),
            value=_own(value),
            output=_own(output[:, :, rows]),
            bias=bias,
            class_scores=scores,
        )


def _bias_rows(mask: Tensor, rows: slice, dtype: torch.dtype) -> Tensor:
    mask = mask[..., rows, :] if mask.shape[-2] > 1 else mask
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, float("-inf"))
    return _own(mask.detach())


def _own(tensor: Tensor) -> Tensor:
    """`tensor` itself, or a compact copy of it if it would keep a larger buffer (the fused qkv, say) alive."""
    tensor = tensor.detach()
    return (
        tensor
        if tensor.untyped_storage().nbytes() <= tensor.nbytes
        else tensor.clone(memory_format=torch.contiguous_format)
    )
