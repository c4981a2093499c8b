"""Attention rollout (Abnar & Zuidema, ACL 2020, arXiv 2005.00928)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from agcam.errors import InputError
from agcam.explainers.class_token import check_calls, check_class_row, check_class_token
from agcam.explainers.differentiable import working_dtype
from agcam.explainers.eager_attention import EagerAttention
from agcam.explainers.eager_forward import eager_forward
from agcam.explainers.patch_grid import on_patches
from agcam.explainers.recording import Recording
from agcam.explainers.registry import register_method

HeadFusion = Literal["mean", "max", "min"]
Normalization = Literal["rows", "leem2024"]

_FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda matrix: matrix.mean(1),
    "max": lambda matrix: matrix.amax(1),
    "min": lambda matrix: matrix.amin(1),
}


@register_method(
    needs="forward", class_specific=False, help="Attention followed through all layers (Abnar & Zuidema 2020)."
)
def rollout(
    recording: Recording,
    *,
    head_fusion: HeadFusion = "mean",
    discard_ratio: float = 0.0,
    normalization: Normalization | None = None,
) -> Callable[[Tensor], Tensor]:
    """Follow the class token's attention through all blocks (Abnar & Zuidema, ACL 2020, arXiv 2005.00928).

    With F_k the attention of block k, its heads fused, and each row of F_k + I scaled to the sum 1,

        r = e_cls · (F_K + I) · … · (F_1 + I),    patch columns only.

    One row is propagated, from the last block to the first: a vector times a matrix for each block. Runs the model
    itself, once, and keeps the fused matrices, (B, N, N) a block.

    Args:
        recording: the forward to explain, or one with no forward in it yet.
        head_fusion: "mean", "max" or "min" over the heads.
        discard_ratio: in [0, 1): in each row of F the least attended tokens, this share of them, are set to 0; the
            class token never is.
        normalization: "rows" as above; "leem2024" as the code of AG-CAM's authors does it, which divides column j of
            F + I by the sum of row j. Fused by mean and with nothing discarded every row has the same sum and they
            agree. None: "leem2024" for discard_ratio 0, so that its maps are the published ones, else "rows".

    Returns:
        A function from targets (B, T) to heatmaps (B, T, h, w), float32, the same for each target: the share of
        the class token's last state that comes from each patch, at most 1 in sum.

    Raises:
        InputError: for an unknown head_fusion or normalization, or a discard_ratio outside [0, 1).
        ModelError: if the model has no class token that runs through all blocks with one attention each.
    """
    if head_fusion not in _FUSIONS:
        raise InputError(f"head_fusion must be one of {', '.join(_FUSIONS)}, found {head_fusion!r}")
    if isinstance(discard_ratio, bool) or not isinstance(discard_ratio, int | float) or not 0 <= discard_ratio < 1:
        raise InputError(f"discard_ratio must be a share of the tokens in [0, 1), found {discard_ratio!r}")
    if normalization not in (None, "rows", "leem2024"):
        raise InputError(f"normalization must be one of rows, leem2024 or None, found {normalization!r}")
    check_class_token(recording.parts, "rollout")
    mode = _Fused(_FUSIONS[head_fusion])
    with torch.no_grad():
        eager_forward(recording, mode)
        check_class_row(recording, "rollout")
        check_calls(recording, len(mode.matrices), "rollout")
        for fused in mode.matrices:
            _discard(fused, discard_ratio)
        row = _propagate(mode.matrices, normalization or ("rows" if discard_ratio else "leem2024"))
        found = on_patches(recording, row)[:, None]
    return lambda targets: found.repeat(1, targets.shape[1], 1, 1)


def _propagate(matrices: list[Tensor], normalization: Normalization) -> Tensor:
    """Multiply, last block first, the class token's row by each normalised F + I, from F (B, N, N): (B, N)."""
    row = torch.zeros_like(matrices[-1][:, 0])
    row[:, 0] = 1
    for matrix in reversed(matrices):
        sums = matrix.sum(-1) + 1
        if normalization == "rows":
            row = row / sums
        row = row + (row.unsqueeze(1) @ matrix).squeeze(1)
        if normalization == "leem2024":
            row = row / sums
    return row


class _Fused(EagerAttention):
    """Keeps each attention matrix with its heads fused, (B, N, N)."""

    def __init__(self, fuse: Callable[[Tensor], Tensor]) -> None:
        super().__init__(convert=False)
        self.fuse = fuse

    def keep(self, query: Tensor, key: Tensor, value: Tensor, matrix: Tensor) -> None:
        """Keep the fused matrix, at least in float32."""
        self.matrices.append(self.fuse(matrix).to(working_dtype(matrix)))


def _discard(fused: Tensor, ratio: float) -> None:
    """Set the least attended tokens of each row of (B, N, N) to 0 in place, the class token's column left out."""
    others = fused[..., 1:]
    count = int(others.shape[-1] * ratio)
    if count:
        others.scatter_(-1, others.topk(count, dim=-1, largest=False).indices, 0)
