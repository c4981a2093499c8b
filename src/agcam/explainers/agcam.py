"""Attention-Guided CAM (Leem & Seo, AAAI 2024, arXiv 2402.04563) from a recorded forward."""

from __future__ import annotations

import torch
from torch import Tensor

from agcam.explainers.replay import replay
from agcam.explainers.tape import Recording

# bounds the gradients held at once (elements): 1,000 classes of a ViT-B batch go through in several passes
_ELEMENTS_PER_PASS = 2**24


def agcam(recording: Recording, targets: Tensor) -> Tensor:
    """AG-CAM of `targets` (B, T): the sigmoid of the attention scores times the positive gradient of the logit.

    For block k, head h and the query rows i that the head reads (the class token in the paper):
    L = Σ_k Σ_h Σ_i sigmoid(S[i, :]) ⊙ ReLU(∂y / ∂A[i, :]), patch columns only. With A·V = o the gradient is
    ∂y / ∂A[i, j] = (∂y / ∂o[i]) · V[j], so no attention matrix is differentiated. For models that average over
    tokens, the sum over all rows i is agcam's own extension of the paper.

    Returns:
        Heatmaps (B, T, h, w), float32, ≥ 0, on the patch grid, in units of the logit.
    """
    batch, count = targets.shape
    rows, width = recording.tokens.shape[1], recording.tokens.shape[2]
    chunk = max(1, _ELEMENTS_PER_PASS // max(1, batch * rows * width * len(recording.calls)))
    with replay(recording) as tape:
        chosen = tape.logits.gather(1, targets)
        maps = []
        for start in range(0, count, chunk):
            size = min(chunk, count - start)
            gradients = _gradients(chosen[:, start : start + size], tape.outputs, last=start + size == count)
            with torch.no_grad():
                maps.append(_heatmaps(recording, gradients))
    return torch.cat(maps, dim=1)


def _gradients(chosen: Tensor, outputs: list[Tensor], last: bool) -> list[Tensor]:
    """∂ chosen[:, t] / ∂ outputs for every t in one batched backward: a list of (T, B, h, R, d)."""
    count = chosen.shape[1]
    if count == 1:
        found = torch.autograd.grad(chosen.sum(), outputs, retain_graph=not last)
        return [g.unsqueeze(0) for g in found]
    seeds = torch.eye(count, dtype=chosen.dtype, device=chosen.device).unsqueeze(1).expand(-1, len(chosen), -1)
    return list(torch.autograd.grad(chosen, outputs, seeds, retain_graph=not last, is_grads_batched=True))


def _heatmaps(recording: Recording, gradients: list[Tensor]) -> Tensor:
    batch, (h, w) = len(recording.tokens), recording.grid
    prefix = recording.anatomy.num_prefix_tokens
    total = torch.zeros(())
    for call, gradient in zip(recording.calls, gradients, strict=True):
        feature = torch.sigmoid(call.scores()[..., prefix:].to(gradient.dtype))
        value = call.value[:, :, prefix:].to(gradient.dtype)
        alpha = torch.einsum("tbhrd,bhnd->tbhrn", gradient, value).relu_()
        total = total.to(alpha) + torch.einsum("tbhrn,bhrn->btn", alpha, feature)
    return total.reshape(batch, -1, h, w).float()
