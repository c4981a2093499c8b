"""Replay: run the recorded tokens through the model's own blocks, each attention call answered from the tape.

The answers are leaves, and the input of each attention module is a constant, so differentiating the replayed
logits gives the paper's gradient, which reaches attention only along skip connections and MLPs, at the price of
a forward and a backward over the few tokens that the head reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from agcam.errors import ModelError
from agcam.explainers.tape import Recording

_QKV = {"qkv", "q_proj", "k_proj", "v_proj", "q", "k", "v"}
_HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Replay:
    """The replayed graph: `logits` (B, C) as a function of `outputs`, one (B, h, R, d) leaf an attention call."""

    logits: Tensor
    outputs: list[Tensor]


class _Answer(TorchFunctionMode):
    """Answers attention calls from the tape; skips projections whose results nobody reads; computes in float32."""

    def __init__(self, outputs: list[Tensor], unread: set[int], upcast: bool) -> None:
        super().__init__()
        self.answers: Iterator[Tensor] = iter(outputs)
        self.unread = unread
        self.upcast = upcast

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, or stand in for it."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return next(self.answers)
        if func is F.linear:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            if id(weight) in self.unread:
                x = args[0] if args else kwargs["input"]
                return x.new_zeros(()).expand(*x.shape[:-1], weight.shape[0])
        if self.upcast:
            args, kwargs = tree_map_only(Tensor, lambda t: t.float() if t.dtype in _HALF else t, (args, kwargs))
        return func(*args, **kwargs)


@contextmanager
def replay(recording: Recording) -> Iterator[Replay]:
    """Replay a recording in float32 (float64 for a float64 model) and check that it reproduces the logits.

    Works inside `torch.no_grad` and `torch.inference_mode`; parameters and their `.grad` are not touched.

    Raises:
        ModelError: if the replayed logits differ from the recorded ones. A map would be wrong, so none is made.
    """
    anatomy = recording.anatomy
    dtype = torch.float64 if recording.tokens.dtype == torch.float64 else torch.float32
    device = recording.tokens.device
    attentions = [m for b in anatomy.blocks for m in b.modules() if m is not b and hasattr(m, "fused_attn")]
    unread = {
        id(m.weight) for a in attentions for name, m in a.named_modules() if name in _QKV and isinstance(m, nn.Linear)
    }
    half = any(p.dtype in _HALF for p in anatomy.backbone.parameters())

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        for module in attentions:
            handle = module.register_forward_pre_hook(_detach_input)
            stack.callback(handle.remove)
        # the clones leave inference mode: its tensors cannot enter autograd
        outputs = [call.output.clone().to(dtype).requires_grad_() for call in recording.calls]
        tokens = recording.tokens.clone().to(dtype)
        with _Answer(outputs, unread, half):
            try:
                for block in anatomy.blocks:
                    tokens = block(tokens)
                logits = anatomy.head(tokens)
            except (RuntimeError, StopIteration) as error:
                raise _mismatch(recording, f"the replay failed ({error})") from error
        _check(recording, logits)
        yield Replay(logits, outputs)


def _detach_input(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (args[0].detach(), *args[1:])


def _check(recording: Recording, logits: Tensor) -> None:
    expected = recording.logits
    if expected.shape != logits.shape:
        raise _mismatch(recording, f"it has logits {tuple(expected.shape)}, the replay {tuple(logits.shape)}")
    working = recording.calls[0].output.dtype
    tolerance = {torch.float64: 1e-8, torch.float32: 1e-3}.get(working, 0.1)
    expected = expected.to(logits.dtype)
    difference = float((expected - logits.detach()).abs().max())
    scale = float(expected.abs().max())
    if not difference <= tolerance * scale + 1e-6:
        raise _mismatch(recording, f"its logits differ from the replayed ones by {difference:.2g} (scale {scale:.2g})")


def _mismatch(recording: Recording, what: str) -> ModelError:
    if not bool(torch.isfinite(recording.logits).all()):
        what = "its logits are not finite; look for NaN in the images or weights"
    return ModelError(
        f"{recording.anatomy.name} cannot be explained: {what}. Its head must read the class token or an average of "
        "tokens, and tokens may mix only in scaled_dot_product_attention."
    )
