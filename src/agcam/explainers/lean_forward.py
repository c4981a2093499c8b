"""Forwards without the rows of the last block that nobody reads, compared with a whole forward once a model.

Whether a block's row depends on other tokens beyond attention, and whether somebody reads further rows, is a property
of the model's code. So the first forward of a model is run as it is as well, and its output compared, once for each
precision and device. Later ones are guarded by NaN in place of a row that is left out: whoever reads it returns NaN,
and the forward is run whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from agcam.errors import AgcamError, ModelError
from agcam.explainers.eager_stance import running_eagerly
from agcam.explainers.find_vit import inspect_vit
from agcam.explainers.last_block import can_skip, rows_skipped
from agcam.explainers.outputs import OutputReader
from agcam.explainers.own_thread import own_attribute
from agcam.explainers.recorder import Tape, record
from agcam.explainers.recording import Recording
from agcam.explainers.self_check import check_output, same_output
from agcam.explainers.vit_parts import ViTParts, unwrap
from agcam.module_tree import all_modules

Precision = Literal["fp32", "bf16"]
"""Of a forward: as the model is, or autocast to bfloat16."""

_T = TypeVar("_T")
_compared: WeakKeyDictionary[nn.Module, dict[Hashable, bool]] = WeakKeyDictionary()


def record_lean(
    model: nn.Module, images: Tensor, reader: OutputReader | None = None, vit: str | None = None
) -> Recording:
    """Run one forward as `record` does, without the rows of the last block that its ViT's head does not read.

    What is recorded is the same. Forwards that cannot do without these rows are run whole.

    Raises:
        InputError: if the model cannot take images of this size, type or device.
        ModelError: if the model cannot be explained, with the reason.
    """
    parts, bare = inspect_vit(model, vit), unwrap(model)
    whole = partial(record, model, images, reader, vit, parts)
    if not can_skip(bare, parts):
        return whole()
    lean = partial(_lean, model, images, reader, vit, parts)
    return _lean_or_whole(bare, _kind(bare, parts, images), lean, whole, _reproduces)


class LeanModel(nn.Module):
    """The logits of a model, without the rows of its ViT's last block that nobody reads.

    For what runs one model often, as perturbation metrics do. A model that cannot do without these rows runs as it is.

    Args:
        model: gives logits (B, C) for images (B, 3, H, W).
        precision: of the forward; bf16 by autocast.
    """

    def __init__(self, model: nn.Module, precision: Precision = "fp32") -> None:
        super().__init__()
        self.model, self.precision = model, precision

    def forward(self, images: Tensor) -> Any:
        """Return what the model returns for images (B, 3, H, W)."""
        half = torch.autocast(images.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with half:
            return self._forward(images)

    def _forward(self, images: Tensor) -> Any:
        try:
            parts = inspect_vit(self.model)
        except AgcamError:  # no ViT, or several
            return self.model(images)
        bare, whole = unwrap(self.model), partial(self.model, images)
        if not can_skip(bare, parts):
            return whole()
        lean = partial(_lean_logits, self.model, parts, images)
        kind = ("logits", _kind(bare, parts, images))
        return _lean_or_whole(bare, kind, lean, whole, lambda logits: same_output(whole(), logits))


def _lean_or_whole(
    model: nn.Module, kind: Hashable, lean: Callable[[], _T | None], whole: Callable[[], _T], same: Callable[[_T], bool]
) -> _T:
    """Return what `lean` makes, unless that is None or was not the `same` the first time; else what `whole` makes."""
    known = _compared.setdefault(model, {})
    if known.get(kind, True) and (found := lean()) is not None:
        if kind not in known:
            known[kind] = same(found)
        if known[kind]:
            return found
    return whole()


def _lean_logits(model: nn.Module, parts: ViTParts, images: Tensor) -> Tensor | None:
    with running_eagerly(), rows_skipped(parts, traced=False):
        try:
            logits = model(images)
        except (IndexError, RuntimeError, ValueError):  # as in `_lean`
            return None
    return logits if isinstance(logits, Tensor) and bool(torch.isfinite(logits).all()) else None


def _lean(
    model: nn.Module, images: Tensor, reader: OutputReader | None, vit: str | None, parts: ViTParts
) -> Recording | None:
    """Record without unread rows; None where somebody has read them."""
    tape = Tape(model, reader, vit, parts, lean=True)
    try:
        with tape, torch.inference_mode():
            tape.model(images)
    except (IndexError, RuntimeError, ValueError):  # of code that counts on all rows
        return None
    recording = tape.recording
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in (recording.logits, *recording.read))
    return recording if finite else None


def _reproduces(recording: Recording) -> bool:
    """Return whether a whole forward returns what was recorded."""
    with torch.inference_mode():
        read, logits = recording.interpret(recording.model(recording.images))
    try:
        check_output(replace(recording, read=read, logits=logits), recording.read, recording.logits)
    except ModelError:
        return False
    return True


def _kind(model: nn.Module, parts: ViTParts, images: Tensor) -> Hashable:
    """Return what a comparison holds for: the code of the model's modules, precision and device."""
    device = images.device.type
    # an id, as a bound method would keep the model alive
    code = tuple((type(m), type(m).forward, id(own_attribute(m, "forward"))) for m in all_modules(model))
    autocasting = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    autocast = torch.get_autocast_dtype(device) if autocasting else None
    return id(parts.backbone), images.dtype, images.device, autocast, code
