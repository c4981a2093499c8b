"""A part of a recording: the forward of some of its images, so that explaining few of them costs as much as few."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from agcam.explainers.recording import AttentionCall, Recording


def of_images(recording: Recording, rows: Tensor) -> Recording:
    """Return the recording of these images alone, as if they had gone through by themselves.

    What all images share, such as a score bias, is kept as it is.

    Args:
        recording: of B images.
        rows: (n,) int64, which ones, on the device of the recording.
    """
    batch = len(recording.images)

    def chosen(tensor: Any) -> Any:
        return tensor[rows.to(tensor.device)] if tensor is not None and len(tensor) == batch else tensor

    def of_call(call: AttentionCall) -> AttentionCall:
        found = {name: chosen(tensor) for name, tensor in vars(call).items()}
        # one of fewer dimensions is for all images, however many heads or tokens its first one counts
        shared = call.bias is not None and call.bias.dim() < 4
        return AttentionCall(**found | {"bias": call.bias if shared else found["bias"]})

    calls = [of_call(call) for call in recording.calls]
    images, tokens, logits = map(chosen, (recording.images, recording.tokens, recording.logits))
    read = [chosen(tensor) for tensor in recording.read]
    return replace(recording, images=images, tokens=tokens, calls=calls, logits=logits, read=read)
