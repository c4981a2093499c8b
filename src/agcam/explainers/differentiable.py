"""Autograd through a model in half precision, with no_grad around its ViT, or with weights of inference mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from agcam.errors import AgcamError
from agcam.explainers.recording import Recording
from agcam.explainers.self_check import check_no_quantized_weights, mismatch
from agcam.module_tree import all_tensors

_HALF = (torch.bfloat16, torch.float16)
_set_grad_enabled = torch._C._set_grad_enabled  # what torch.no_grad calls, and function modes see


class DifferentiableMode(TorchFunctionMode):
    """Leaves autograd on where the model switches it off, as around a frozen backbone; computes in float32.

    Args:
        convert: whether the model has weights in half precision, or tensors that were made in inference mode.
    """

    def __init__(self, convert: bool) -> None:
        super().__init__()
        self.convert = convert

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`."""
        kwargs = kwargs or {}
        if func is _set_grad_enabled and not args[0]:
            return None
        if self.convert:
            args, kwargs = differentiable_arguments(args, kwargs)
        return func(*args, **kwargs)


@contextmanager
def differentiable(recording: Recording) -> Iterator[None]:
    """Switch autograd on, whatever the caller has switched off, and autocast off.

    Raises:
        ModelError: if the recording holds no attention to differentiate by, or no gradient passes the model's weights.
    """
    if not recording.calls:
        raise mismatch(recording, "it made no scaled_dot_product_attention call between its first block and its head")
    check_no_quantized_weights(recording)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(recording.tokens.device.type, enabled=False):
        yield


@contextmanager
def explaining_failures(recording: Recording) -> Iterator[None]:
    """Turn what a model's own code raises when it is called in an unforeseen way into a `ModelError`."""
    try:
        yield
    except (torch.OutOfMemoryError, AgcamError):
        raise
    except Exception as error:  # a model's code can raise anything
        raise mismatch(recording, f"running its blocks again failed ({type(error).__name__}: {error})") from error


def working_dtype(tensor: Tensor) -> torch.dtype:
    """Return what a tensor's gradients are computed in: float64 for float64, float32 for all others."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def needs_conversion(recording: Recording) -> bool:
    """Return whether a weight is in half precision, or was made in inference mode, where autograd cannot follow."""
    return any(tensor.dtype in _HALF or tensor.is_inference() for tensor in all_tensors(recording.model))


def differentiable_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call with half precision in float32 and tensors of inference mode as ordinary ones."""
    found: tuple[tuple[Any, ...], dict[str, Any]] = tree_map_only(Tensor, _differentiable, (args, kwargs))
    return found


def _differentiable(tensor: Tensor) -> Tensor:
    if tensor.dtype in _HALF:
        return tensor.float()
    return tensor.clone() if tensor.is_inference() else tensor
