"""A device that this machine need not have: it computes on the CPU, but holds no float64 and mixes with nothing.

It goes by the name of "meta", which torch knows everywhere. Like Apple's GPUs it refuses float64; like any device it
refuses CPU tensors beside its own, except numbers (0-dimensional) and indices.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
_MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
_INDEXED = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default)


class OnDevice(Tensor):
    """A tensor on the device; `inner` holds its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        return Tensor._make_wrapper_subclass(
            cls, inner.size(), inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=DEVICE
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def pretend_device() -> Iterator[torch.device]:
    """While it is entered, tensors can be made on the device and moved to and from it."""
    with _Literals(), _Operations(), patch("torch.autocast", _autocast), patch("torch.inference_mode", _inference_mode):
        yield DEVICE


_plain_autocast = torch.autocast


def _autocast(device_type: str, *args: Any, **kwargs: Any) -> torch.autocast:
    """Torch has no autocast for a device of that name; the numbers are the CPU's."""
    return _plain_autocast("cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)


class _Literals(TorchFunctionMode):
    """`torch.tensor(…, device=…)` and `tolist`, of which torch tells nobody as operations."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if func in (torch.tensor, torch.as_tensor) and device is not None and torch.device(device) == DEVICE:
            return func(*args, **kwargs | {"device": torch.device("cpu")}).to(DEVICE)
        if func is Tensor.tolist and isinstance(args[0], OnDevice):
            return args[0].inner.tolist()
        return func(*args, **kwargs)


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _inference_mode(mode: bool = True) -> AbstractContextManager[object]:
    """A tensor around another cannot be an inference tensor; nothing needs a gradient all the same."""
    return torch.no_grad() if mode else nullcontext()


class DeviceStrategy(SingleDeviceStrategy):
    """Trains on the device."""

    def __init__(self) -> None:
        super().__init__(DEVICE, _Accelerator())


class _Accelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        assert device == DEVICE


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    mine = [t for t in given if isinstance(t, OnDevice)]
    asked = kwargs.get("device")
    stays = bool(mine) if asked is None else torch.device(asked) == DEVICE
    if stays and mine and func not in _MOVES:
        others = given[:1] if func in _INDEXED else given
        if any(t.dim() and not isinstance(t, OnDevice) for t in others):
            raise RuntimeError(f"Expected all tensors to be on the same device, found meta and cpu in {func}")
    if mine and asked is None and func is torch.ops.aten.copy_.default:
        stays = isinstance(args[0], OnDevice)
    if not mine and not stays:
        return func(*args, **kwargs)
    if asked is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    known = {id(t.inner): t for t in mine}
    args, kwargs = tree_map(lambda t: t.inner if isinstance(t, OnDevice) else t, (args, kwargs))

    def wrapped(out: Any) -> Any:
        if not isinstance(out, Tensor) or not stays:
            return out
        if out.dtype == torch.float64:
            raise TypeError(f"the device has no float64, which {func} would give")
        return known.get(id(out)) if id(out) in known else OnDevice(out)

    return tree_map(wrapped, func(*args, **kwargs))
