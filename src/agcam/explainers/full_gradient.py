"""∂y / ∂A through the whole network: the ablation of AG-CAM in which attention passes gradients on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from agcam.explainers.eager_attention import EagerAttention
from agcam.explainers.recorder import Recording
from agcam.explainers.replay import check_logits, differentiable, explaining_failures, needs_conversion, working_dtype
from agcam.explainers.vit_parts import traceable


@contextmanager
def full_gradients(recording: Recording, targets: Tensor, used: list[int]) -> Iterator[Iterator[list[Tensor]]]:
    """Run a second, ordinary forward in which nothing is detached; differentiate by its attention matrices A.

    Args:
        recording: of the first forward.
        targets: (B, T) int64 class indices.
        used: numbers of the attention calls to differentiate by.

    Yields:
        For each of the T targets in turn: ∂y / ∂A of each used call, (1, B, h, R, N).

    Raises:
        ModelError: if the second forward does not reproduce the logits of the first.
    """
    parts = recording.parts
    mode = EagerAttention(needs_conversion(parts.backbone))
    with differentiable(recording), traceable(parts):
        images = recording.images.clone().to(working_dtype(recording.tokens))
        handle = parts.blocks[0].register_forward_pre_hook(mode.listen)
        try:
            with mode, explaining_failures(recording):
                logits = parts.backbone(images)
        finally:
            handle.remove()
        check_logits(recording, logits)
        chosen, matrices = logits.gather(1, targets), [mode.matrices[call] for call in used]
        yield (
            [
                gradient[None, :, :, parts.rows]
                for gradient in torch.autograd.grad(chosen[:, t].sum(), matrices, retain_graph=True)
            ]
            for t in range(targets.shape[1])
        )
