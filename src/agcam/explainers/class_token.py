"""What methods that follow one class token through all blocks need of a model."""

from __future__ import annotations

from agcam.errors import ModelError
from agcam.explainers.recorder import Recording
from agcam.explainers.replay import mismatch
from agcam.explainers.vit_parts import ViTParts


def check_class_token(parts: ViTParts, method: str) -> None:
    """Raise `ModelError` unless the head reads one class token that runs through all blocks."""
    found = None
    if parts.class_attention:
        found = "has its class token in its last, class-attention, blocks alone"
    elif getattr(parts.backbone, "attn_pool", None) is not None:
        found = "pools its tokens by attention"
    elif parts.rows == slice(None):
        found = "pools over its tokens"
    elif parts.rows != slice(0, 1):
        found = "has more than one token that the head reads"
    if found:
        raise ModelError(
            f"{method} follows one class token through all blocks, {parts.name} {found}; "
            "use agcam or raw_attention, which reach it"
        )


def check_calls(recording: Recording, found: int, method: str) -> None:
    """Raise `ModelError` unless each block made one attention call."""
    blocks = len(recording.parts.blocks)
    if found != blocks:
        raise mismatch(recording, f"{method} needs one attention a block, its {blocks} blocks made {found}")
