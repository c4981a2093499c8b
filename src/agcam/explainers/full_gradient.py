"""∂y / ∂A through the whole network: the ablation of AG-CAM in which attention passes gradients on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from agcam.explainers.differentiable import differentiable, explaining_failures, needs_conversion
from agcam.explainers.eager_attention import EagerAttention
from agcam.explainers.eager_forward import run_eagerly
from agcam.explainers.recording import Recording


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
    mode = EagerAttention(needs_conversion(recording) or recording.images.is_inference())
    with differentiable(recording):
        with explaining_failures(recording):
            logits = run_eagerly(recording, mode)
        chosen, matrices = logits.gather(1, targets), [mode.matrices[call] for call in used]
        yield (
            [
                gradient[None, :, :, recording.parts.rows]
                for gradient in torch.autograd.grad(chosen[:, t].sum(), matrices, retain_graph=True)
            ]
            for t in range(targets.shape[1])
        )
