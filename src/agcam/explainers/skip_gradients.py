"""The paper's gradient: by attention matrices, reaching them only along skip connections and MLPs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from agcam.explainers.recording import Recording
from agcam.explainers.replay import replay

# bounds the gradients held at once (elements): 1,000 classes of a ViT-B batch go through in several passes
_ELEMENTS_PER_PASS = 2**24


@contextmanager
def gradients_along_skips(
    recording: Recording, explained: Callable[[Tensor], Tensor], used: list[int]
) -> Iterator[Iterator[Iterator[Tensor]]]:
    """Replay a recording and differentiate what is explained by the attention matrices A.

    With A·V = o, ∂y / ∂A[i, j] = (∂y / ∂o[i]) · V[j]: no attention matrix is differentiated.

    Args:
        recording: the forward to explain.
        explained: makes y (B, T) of the replayed logits (B, C).
        used: numbers of the attention calls to differentiate by.

    Yields:
        For each chunk of targets in turn, for each used call, made when asked for: ∂y / ∂A (T, B, h, R, N).

    Raises:
        ModelError: if the forward cannot be reproduced from the recording.
    """
    with replay(recording) as tape:
        outputs, values = [tape.outputs[call] for call in used], [recording.calls[call].value for call in used]
        yield gradients_by_attention(explained(tape.logits), outputs, values, recording.has_graph)


def gradients_by_attention(
    chosen: Tensor, outputs: list[Tensor], values: list[Tensor], graph: bool = False
) -> Iterator[Iterator[Tensor]]:
    """Differentiate by the attention matrices of calls whose outputs are leaves.

    Args:
        chosen: y (B, T), a function of the outputs.
        outputs: o (B, h, R, d) of each call.
        values: V (B, h, N, d) of each call.
        graph: whether the gradients can be differentiated again; else the graph is used up.

    Returns:
        For each chunk of targets in turn, for each call, made when asked for: ∂y / ∂A (T, B, h, R, N).
    """
    by_outputs = sum(output.numel() for output in outputs)
    by_attention = max(o.shape[:3].numel() * v.shape[2] for o, v in zip(outputs, values, strict=True))
    count, size = chosen.shape[1], max(1, _ELEMENTS_PER_PASS // (by_outputs + by_attention))
    return (
        map(_by_attention, _gradients(chosen[:, start : start + size], outputs, start + size >= count, graph), values)
        for start in range(0, count, size)
    )


def _by_attention(by_output: Tensor, value: Tensor) -> Tensor:
    """Make ∂y / ∂A (T, B, h, R, N) from ∂y / ∂o (T, B, h, R, d) and V (B, h, N, d)."""
    return torch.einsum("tbhrd,bhnd->tbhrn", by_output, value.to(by_output.dtype))


def _gradients(chosen: Tensor, outputs: list[Tensor], last: bool, graph: bool) -> list[Tensor]:
    """Differentiate chosen[:, t] by the outputs for every t in one batched backward: a list of (T, B, h, R, d)."""
    count, retain = chosen.shape[1], graph or not last
    if count == 1:
        found = torch.autograd.grad(chosen.sum(), outputs, retain_graph=retain, create_graph=graph)
        return [g.unsqueeze(0) for g in found]
    seeds = torch.eye(count, dtype=chosen.dtype, device=chosen.device).unsqueeze(1).expand(-1, len(chosen), -1)
    found = torch.autograd.grad(chosen, outputs, seeds, retain_graph=retain, create_graph=graph, is_grads_batched=True)
    return list(found)
