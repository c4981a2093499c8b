"""Several recordings as one: a small model's forwards are explained together, at the price of one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch

from agcam.errors import InputError
from agcam.explainers.recording import AttentionCall, Recording


def join_recordings(recordings: Sequence[Recording]) -> Recording:
    """Make one recording of those of several forwards, as if all their images had gone through in one.

    Raises:
        InputError: if there is none, or they do not fit together (see `joinable`).
    """
    first = recordings[0] if recordings else None
    if first is None or not all(joinable(first, recording) for recording in recordings):
        raise InputError("only recordings of one model at one image size, without attention bias, can be joined")
    if len(recordings) == 1:
        return first

    def joined(name: str, parts: Sequence[Any]) -> Any:
        found = [getattr(part, name) for part in parts]
        return None if found[0] is None else torch.cat(found)

    calls = [
        AttentionCall(**{f.name: joined(f.name, parts) for f in fields(AttentionCall)})
        for parts in zip(*(recording.calls for recording in recordings), strict=True)
    ]
    images, tokens, logits = (joined(name, recordings) for name in ("images", "tokens", "logits"))
    read = [torch.cat(parts) for parts in zip(*(recording.read for recording in recordings), strict=True)]
    return replace(first, images=images, tokens=tokens, calls=calls, logits=logits, read=read)


def joinable(one: Recording, other: Recording) -> bool:
    """Return whether two recordings are of one model and image size, without score bias, which may be per batch."""

    def kind(recording: Recording) -> object:
        kept = [recording.images, recording.tokens, recording.logits, *recording.read]
        kept += [t for call in recording.calls for t in vars(call).values() if t is not None]
        return [(tensor.shape[1:], tensor.dtype, tensor.device) for tensor in kept]

    biased = any(call.bias is not None for call in one.calls)
    return one is other or (_made_alike(one, other) and not biased and kind(one) == kind(other))


def _made_alike(one: Recording, other: Recording) -> bool:
    same = one.model is other.model and one.parts.backbone is other.parts.backbone and one.reader == other.reader
    return same and (one.entrance, one.own_head) == (other.entrance, other.own_head)
