"""Run recorded tokens through the model's own blocks once more, each attention call answered from the tape.

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
from agcam.explainers.recorder import Recording
from agcam.explainers.vit_parts import ViTParts, traceable

_HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Replay:
    """The replayed graph: `logits` (B, C) as a function of `outputs`, one (B, h, R, d) leaf an attention call."""

    logits: Tensor
    outputs: list[Tensor]


class _Answer(TorchFunctionMode):
    """Answers attention calls from the tape; skips projections whose results nobody reads; computes in float32."""

    def __init__(self, outputs: list[Tensor], parts: ViTParts) -> None:
        super().__init__()
        self.answers: Iterator[Tensor] = iter(outputs)
        # the weights are kept beside their ids, which could otherwise be given to another tensor
        self.unread = {id(weight): weight for weight in parts.unread_weights()}
        self.convert = needs_conversion(parts.backbone)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, or answer in its place."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return next(self.answers)
        if func is F.linear:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            if id(weight) in self.unread:
                x = args[0] if args else kwargs["input"]
                return x.new_zeros(*x.shape[:-1], weight.shape[0])
        if self.convert:
            args, kwargs = differentiable_arguments(args, kwargs)
        return func(*args, **kwargs)


@contextmanager
def replay(recording: Recording) -> Iterator[Replay]:
    """Replay a recording in float32 (float64 for a float64 model) and check that it reproduces the logits.

    Works inside `torch.no_grad` and `torch.inference_mode`; parameters and their `.grad` are not touched.

    Raises:
        ModelError: if the replayed logits differ from the recorded ones. A map would be wrong, so none is made.
    """
    parts = recording.parts
    dtype = working_dtype(recording.tokens)
    with ExitStack() as stack:
        stack.enter_context(differentiable(recording))
        stack.enter_context(traceable(parts))
        for module in parts.attentions:
            # a block that does its own attention has an MLP that the input reaches, too
            if all(module is not block for block in parts.blocks):
                stack.callback(module.register_forward_pre_hook(_detach_input).remove)
        # the clones leave inference mode: its tensors cannot enter autograd
        outputs = [call.output.clone().to(dtype).requires_grad_() for call in recording.calls]
        tokens = recording.tokens.clone().to(dtype)
        with _Answer(outputs, parts), explaining_failures(recording):
            logits = parts.walk(tokens)
        check_logits(recording, logits)
        yield Replay(logits, outputs)


@contextmanager
def differentiable(recording: Recording) -> Iterator[None]:
    """Switch autograd on, whatever the caller has switched off, and autocast off.

    Raises:
        ModelError: if the recording holds no attention to differentiate by.
    """
    if not recording.calls:
        raise mismatch(recording, "it made no scaled_dot_product_attention call between its first block and its head")
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(recording.tokens.device.type, enabled=False):
        yield


@contextmanager
def explaining_failures(recording: Recording) -> Iterator[None]:
    """Turn what a model's own code raises when it is called in an unforeseen way into a `ModelError`."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a model's code can raise anything
        raise mismatch(recording, f"running its blocks again failed ({type(error).__name__}: {error})") from error


def working_dtype(tensor: Tensor) -> torch.dtype:
    """Return what a tensor's gradients are computed in: float64 for float64, float32 for all others."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def needs_conversion(model: nn.Module) -> bool:
    """Return whether a weight is in half precision, or was made in inference mode, where autograd cannot follow."""
    return any(parameter.dtype in _HALF or parameter.is_inference() for parameter in model.parameters())


def differentiable_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call with half precision in float32 and tensors of inference mode as ordinary ones."""
    found: tuple[tuple[Any, ...], dict[str, Any]] = tree_map_only(Tensor, _differentiable, (args, kwargs))
    return found


def _differentiable(tensor: Tensor) -> Tensor:
    if tensor.dtype in _HALF:
        return tensor.float()
    return tensor.clone() if tensor.is_inference() else tensor


def check_logits(recording: Recording, logits: Tensor) -> None:
    """Raise `ModelError` unless `logits` are the recorded ones, as far as the forward's precision can tell."""
    expected = recording.logits
    if expected.shape != logits.shape:
        raise mismatch(
            recording, f"it has logits {tuple(expected.shape)}, running it again gives {tuple(logits.shape)}"
        )
    tolerance = {torch.float64: 1e-8, torch.float32: 1e-3}.get(recording.calls[0].output.dtype, 0.1)
    if tolerance == 1e-3 and torch.get_float32_matmul_precision() != "highest":
        tolerance = 0.1
    expected = expected.to(logits.dtype)
    difference = float((expected - logits.detach()).abs().max())
    scale = float(expected.abs().max())
    if not difference <= tolerance * scale + 1e-6:
        raise mismatch(
            recording, f"its logits differ by {difference:.2g} (scale {scale:.2g}) when its blocks are run again"
        )


def mismatch(recording: Recording, what: str) -> ModelError:
    """Make the error for a model whose replay cannot be trusted."""
    if not bool(torch.isfinite(recording.logits).all()):
        what = "its logits are not finite; look for NaN in the images or weights"
    elif recording.parts.backbone.training:
        what += "; it is in training mode, call model.eval() first"
    return ModelError(
        f"{recording.parts.name} cannot be explained: {what}. Its head must read the class token, an average of "
        "tokens or an attention pooling, and tokens may mix only in scaled_dot_product_attention."
    )


def _detach_input(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(arg.detach() if isinstance(arg, Tensor) else arg for arg in args)
