"""The tape: what one ordinary forward of a model leaves behind for its explanation.

`Tape` listens to a model and to the ViT inside it. Every forward through the model, whoever calls it and in whatever
precision, leaves a `Recording`: what the model returned, the tokens that enter the ViT's blocks, and for each attention
call the score rows, values and output rows of the tokens that the head reads. Nothing is computed twice, and no N×N
matrix is kept for models whose head reads a class token.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from agcam.errors import ModelError
from agcam.explainers.find_vit import inspect_vit
from agcam.explainers.last_block import rows_skipped
from agcam.explainers.outputs import OutputReader
from agcam.explainers.random_state import RandomState
from agcam.explainers.recording import AttentionCall, Recording
from agcam.explainers.vit_parts import ViTParts, traceable, unwrap
from agcam.explainers.watching import Run, Watch


class _Listener(TorchFunctionMode):
    """Reports each attention call and its answer."""

    def __init__(self, report: Callable[..., None]) -> None:
        super().__init__()
        self.report = report

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`; if it is an attention call, report it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self.report(out, *args, **kwargs)
        return out


class Tape:
    """Record the forwards of a model inside a `with` block, where compiled code runs eagerly.

    Only what the thread that entered the block does is recorded.

    Examples:
        >>> with Tape(model) as tape, torch.inference_mode():
        ...     logits = model(images)
        >>> recording = tape.recording

    Args:
        model: a ViT of one of `agcam.families()`, or any module that contains one and is called with images alone.
        reader: what of the model's output is explained.
        vit: the name of the ViT among the model's modules, where there are several.
        parts: of the ViT, where they were found before.
        lean: whether the rows of the last block that the ViT's head does not read are left out (see `can_skip`).
        graph: whether the recording keeps its autograd graph, so that heatmaps can be differentiated by the model's
            parameters (see `guidance_loss`). Nothing is copied then: a forward that is to be trained keeps it all.

    Raises:
        ModelError: if the model has no ViT that agcam knows how to walk.
    """

    def __init__(
        self,
        model: nn.Module,
        reader: OutputReader | None = None,
        vit: str | None = None,
        parts: ViTParts | None = None,
        *,
        lean: bool = False,
        graph: bool = False,
    ) -> None:
        self.model = unwrap(model)
        self.parts = parts or inspect_vit(model, vit)
        self._reader, self._vit = reader or OutputReader(), vit
        self._lean, self._graph = lean, graph
        self._recording: Recording | None = None
        self._running: Recording | None = None
        self._listening = False
        self._stack = ExitStack()
        self._shelves: dict[str, Tensor] = {}

    @property
    def has_recording(self) -> bool:
        """Whether a forward has been completed."""
        return self._recording is not None

    @property
    def recording(self) -> Recording:
        """The latest complete forward."""
        if self._recording is None:
            raise ModelError(
                f"{self.parts.name}: no forward was recorded. Call the model itself inside the `with Tape(model)` "
                "block, not its blocks or `forward_features`."
            )
        return self._recording

    def __enter__(self) -> Self:
        watch = Watch(self.model, self.parts, self._enter_vit, self._leave_vit, self._finish)
        with ExitStack() as stack:
            stack.enter_context(traceable(self.parts))
            stack.enter_context(watch.watching())
            # not kept: a tape that holds what holds its own method lives on, with the recording, until garbage is
            # collected, and collection counts objects, not the memory of tensors
            stack.enter_context(_Listener(self._keep))
            if self._lean:
                stack.enter_context(rows_skipped(self.parts, self._fits_last_block))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _enter_vit(self, run: Run, args: tuple[Any, ...]) -> None:
        assert run.parts is not None
        self._recording = None
        tokens = run.parts.entering(args)
        self._running = Recording(self.model, run.parts, run.images, tokens if self._graph else _own(tokens))
        if self._graph:
            self._running.random_state = RandomState.of(tokens.device)
        self._running.reader, self._running.vit = self._reader, self._vit
        self._listening = True

    def _fits_last_block(self) -> bool:
        """Return whether the ViT's own head follows, after one attention call in each block."""
        running, parts = self._running, self.parts
        return running is not None and running.parts is parts and len(running.calls) == len(parts.blocks) - 1

    def _leave_vit(self) -> None:
        self._listening = False
        self._shelves = {}

    def _finish(self, run: Run, returned: Any) -> None:
        recording, self._running = self._running, None
        if recording is not None:
            recording.finish(run, returned)
            self._recording = recording

    def _keep(self, *args: Any, **kwargs: Any) -> None:
        if self._listening and self._running is not None:
            parts, number = self._running.parts, len(self._running.calls)
            count = max(1, len(parts.attentions))
            if number == 0:
                self._shelves = {}
            call = _keep(parts.rows, self._graph, *args, **kwargs)
            if self._graph:
                self._running.calls.append(call)
                return
            kept = {name: tensor for name, tensor in vars(call).items() if tensor is not None}
            placed = {name: self._place(name, number, count, tensor) for name, tensor in kept.items()}
            self._running.calls.append(replace(call, **placed))

    def _place(self, name: str, number: int, count: int, tensor: Tensor) -> Tensor:
        """Return a compact copy of `tensor`, beside those of the other calls.

        Copies made one by one between the forward's large passing tensors would leave the heap full of holes that
        none of them fits: more memory lost than the copies take.
        """
        if name not in self._shelves:
            self._shelves[name] = tensor.new_empty(count, *tensor.shape)
        shelf = self._shelves[name]
        if number >= count or shelf.shape[1:] != tensor.shape or shelf.dtype != tensor.dtype:
            return _own(tensor)
        return shelf[number].copy_(tensor)


def record(
    model: nn.Module,
    images: Tensor,
    reader: OutputReader | None = None,
    vit: str | None = None,
    parts: ViTParts | None = None,
) -> Recording:
    """Run one forward of the model on `images` (B, 3, H, W) and return what it left on the tape.

    `parts` are those of the ViT in it, where they were found before.

    Raises:
        InputError: if the model cannot take images of this size, type or device.
        ModelError: if the model cannot be explained, with the reason.
    """
    tape = Tape(model, reader, vit, parts)
    # other libraries keep what they made in inference mode, such as position indices, where autograd refuses it later
    with tape, torch.no_grad() if tape.parts.runs_itself else torch.inference_mode():
        tape.model(images)
    return tape.recording


def _keep(
    rows: slice,
    graph: bool,
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
    with nullcontext() if graph else torch.no_grad():
        if enable_gqa:
            key, value = repeated_heads(query, key, value)
        query = query[:, :, rows] * (query.shape[-1] ** -0.5 if scale is None else scale)
        bias = None if attn_mask is None else additive(attn_mask, query.dtype)
        if bias is not None and bias.shape[-2] > 1:
            bias = bias[..., rows, :]
        output = output[:, :, rows]
        if graph:
            return AttentionCall(value, output, None, query, key, bias)
        output, value = output.detach(), value.detach()
        if query.shape[2] > query.shape[3]:
            return AttentionCall(value, output, None, query, key.detach(), bias)
        # for one row a product and a sum read the strided keys once; matmul would copy them first
        one = query.shape[2] == 1
        scores = (query * key).sum(-1).unsqueeze(2) if one else query @ key.transpose(-2, -1)
        return AttentionCall(value, output, scores if bias is None else scores + bias, None, None, None)


def repeated_heads(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat each key and value head of grouped-query attention for its group of queries: (B, h, N, d) both."""
    groups = query.shape[1] // key.shape[1]
    return key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn an attention mask into a term of the scores before softmax: a boolean one says where attention may go."""
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, float("-inf"))
    return mask


def _own(tensor: Tensor) -> Tensor:
    """Return `tensor` itself, or a compact copy of it if it would keep a larger buffer (the fused qkv, say) alive."""
    tensor = tensor.detach()
    compact = tensor.untyped_storage().nbytes() <= tensor.nbytes
    return tensor if compact else tensor.clone(memory_format=torch.contiguous_format)
