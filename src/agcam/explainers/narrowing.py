"""Which rows a model reads of its ViT's last block, tried out: for ViTs whose own code is run."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from torch import Tensor

from agcam.errors import ModelError
from agcam.explainers.recorder import record
from agcam.explainers.recording import AttentionCall, Recording
from agcam.explainers.replay import replayed
from agcam.explainers.self_check import check_output


def narrowed(recording: Recording) -> Recording:
    """Return the recording of the rows that the model reads; check that a replay of it reproduces the output.

    Rows are given up one choice after the other: the class token alone, say. Those that were given up are NaN in the
    replay, so that an output which depends on one of them cannot pass for the recorded one. A model that has an
    attention pooling and does not read it is recorded once more, without.

    Raises:
        ModelError: if the replay of all rows does not reproduce the output.
    """
    if not recording.calls:
        return recording
    if recording.parts.unpooled is not None:
        if _reproduces(recording):
            return recording
        recording = record(recording.model, recording.images, recording.reader, parts=recording.parts.unpooled)
    parts = recording.parts
    if parts.rows.stop is None and parts.num_prefix_tokens and not parts.pools_by_attention:
        for rows in parts.row_choices:
            narrow = of_rows(recording, rows)
            same = _reproduces(narrow)
            if same is None:  # positions or the like belong to all tokens
                narrow = _among_all(recording, rows)
                same = _reproduces(narrow)
            if same:
                return narrow
    with replayed(recording) as (read, found):
        check_output(recording, read, found.logits)
    return recording


def _reproduces(recording: Recording) -> bool | None:
    """Return whether a replay has the recorded output; None if it cannot be run with these tokens."""
    with ExitStack() as stack:
        try:
            read, found = stack.enter_context(replayed(recording))
        except ModelError:
            return None
        try:
            check_output(recording, read, found.logits)
        except ModelError:
            return False
    return True


def of_rows(recording: Recording, rows: slice) -> Recording:
    """Leave the rows, in the tokens and in each attention call."""

    def row(tensor: Tensor | None) -> Tensor | None:
        return tensor if tensor is None or tensor.shape[-2] == 1 else tensor[..., rows, :]

    calls = [
        AttentionCall(c.value, c.output[:, :, rows], row(c.row_scores), row(c.query), c.key, row(c.bias))
        for c in recording.calls
    ]
    parts = replace(recording.parts, rows=rows)
    return replace(recording, parts=parts, tokens=recording.tokens[:, rows], calls=calls)


def _among_all(recording: Recording, rows: slice) -> Recording:
    """Leave the rows, and run all tokens: those of the other rows stay as they were."""
    narrow = of_rows(recording, rows)
    calls = [
        replace(call, others=whole.output[:, :, rows.stop :])
        for call, whole in zip(narrow.calls, recording.calls, strict=True)
    ]
    return replace(narrow, tokens=recording.tokens, calls=calls)
