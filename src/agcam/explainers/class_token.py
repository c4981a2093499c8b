"""What methods that follow one class token through all blocks need of a model."""

from __future__ import annotations

from torch import Tensor

from agcam.errors import ModelError
from agcam.evaluating import evaluating
from agcam.explainers.narrowing import narrowed, of_rows
from agcam.explainers.recorder import record
from agcam.explainers.recording import Recording
from agcam.explainers.replay import replayed
from agcam.explainers.self_check import check_output, mismatch
from agcam.explainers.vit_parts import ViTParts

CLASS_TOKEN = slice(0, 1)
# two replays of one output in one precision: far above rounding, far below what a token that is read makes of it
_SAME = 1e-4


def check_class_token(parts: ViTParts, method: str) -> None:
    """Raise `ModelError` unless the ViT's head reads one class token that runs through all blocks."""
    if parts.class_attention:
        raise _refusal(parts, method, "has its class token in its last, class-attention, blocks alone")
    if parts.pools_by_attention:
        raise _refusal(parts, method, "pools its tokens by attention")
    if not parts.num_prefix_tokens and parts.runs_itself:
        raise _refusal(parts, method, "has none")
    if parts.rows == slice(None) and not (parts.pools_nothing or parts.runs_itself):
        raise _refusal(parts, method, "pools over its tokens")
    if parts.rows not in (slice(None), CLASS_TOKEN):
        raise _refusal(parts, method, "has more than one token that the head reads")


def check_class_row(recording: Recording, method: str) -> None:
    """Raise `ModelError` unless the whole model reads the class token alone: its own head may read others as well.

    Costs a forward and a replay, for models with a head of their own, and for those that are not timm's.
    """
    rows = recording.parts.rows
    if recording.own_head or recording.parts.runs_itself:
        recorded = recording
        with evaluating(recording.model):
            if not recording.calls:
                recorded = record(recording.model, recording.images, recording.reader, recording.vit)
            rows = read_rows(recorded).parts.rows
    # a ViT that returns all its tokens, to nobody's head, has its class token among them
    pooled = recording.has_classes or (recording.parts.runs_itself and all(t.dim() == 2 for t in recorded.read))
    if rows != CLASS_TOKEN and pooled:
        raise _refusal(recording.parts, method, "is part of a model that reads other tokens, too")


def read_rows(recording: Recording) -> Recording:
    """Check the recording of a model with a head of its own; leave the class token's row if it reads no other.

    Raises:
        ModelError: if a replay does not reproduce the output.
    """
    if recording.parts.runs_itself:
        return narrowed(recording)
    if not recording.own_head:
        return recording
    with replayed(recording) as (read, found):
        check_output(recording, read, found.logits)
    parts = recording.parts
    unpooled = parts.rows == slice(None) and (recording.entrance == "forward_features" or parts.pools_nothing)
    if not unpooled or getattr(parts.backbone, "cls_token", None) is None:
        return recording
    alone = of_rows(recording, CLASS_TOKEN)
    try:
        with replayed(alone) as (again, of_row):
            same = _same([found.logits, *read], [of_row.logits, *again])
    except ModelError:  # its code needs the other tokens
        return recording
    return alone if same else recording


def check_calls(recording: Recording, found: int, method: str) -> None:
    """Raise `ModelError` unless each block made one attention call."""
    blocks = len(recording.parts.blocks)
    if found != blocks:
        raise mismatch(recording, f"{method} needs one attention a block, its {blocks} blocks made {found}")


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(
        a.shape == b.shape and bool((a - b).detach().abs().max() <= _SAME * a.detach().abs().max())
        for a, b in zip(one, other, strict=True)
        if a.numel()
    )


def _refusal(parts: ViTParts, method: str, found: str) -> ModelError:
    return ModelError(
        f"{method} follows one class token through all blocks, {parts.name} {found}; "
        "use agcam or raw_attention, which reach it"
    )
