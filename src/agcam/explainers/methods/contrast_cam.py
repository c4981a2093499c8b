"""ContrastCAM: what each patch adds to the lead of a class over the others, spread over patches that look alike."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from agcam.explainers.patch_grid import patch_columns
from agcam.explainers.recording import Recording
from agcam.explainers.registry import register_method
from agcam.explainers.skip_gradients import gradients_along_skips

# chosen on one half of the test birds and on generated shapes, see docs/method-search.md
_TEMPERATURE = 0.2
# what sums in float32 leave of equal numbers, which scaling would blow up to a map
_ROUNDING = 1e-5


@register_method(help="What each patch adds to the lead of the class, spread over similar patches; one forward pass.")
def contrast_cam(recording: Recording, targets: Tensor) -> Tensor:
    """Sum what patches add to the lead of a class, spread it over similar patches, scale: agcam's own method.

    For block k, head h and the query rows i that the head reads, with A = softmax(Q·Kᵀ/√d (+ bias)), values V, and the
    input of every attention module a constant as in `agcam`:

    1. Lead of class c over the mean class:  z = y_c − mean_j y_j.  z = y_c where there is one output alone, or where a
       score is explained.
    2. Contribution of patch j:  E[j] = Σ_k Σ_h Σ_i A[i, j] · ∂z / ∂A[i, j].  It keeps its sign. As ∂z / ∂A[i, j] =
       (∂z / ∂o[i]) · V[j], this is to first order how much z owes to what attention takes from j.
    3. Spread:  P[j] = Σ_l W[j, l] E[l],  W = softmax over l of cos(v_j, v_l) / 0.2,  where v_j is the value of patch j
       in the last block, all heads together, minus the mean over patches. Evidence against c spreads, too.
    4. Scale:  m = ReLU(P), scaled to [0, 1], to the power p with p = ln ½ / ln mean(m): so 0.5, where maps are
       commonly cut, is what the mean was. A power changes no ranking.

    Query rows of models without a class token are those of `agcam`. Maps are relative: 1 is the hottest patch of each
    map, whatever the logit, so that maps of two classes compare where, not how much.

    Args:
        recording: the forward to explain.
        targets: (B, T) int64 class indices.

    Returns:
        Heatmaps (B, T, h, w), float32, in [0, 1], on the patch grid; all 0 where no patch speaks for the class.

    Raises:
        ModelError: if the model cannot be explained: its forward cannot be reproduced from the recording.
    """
    contrasted = recording.reader.score is None and recording.logits.shape[1] > 1

    def lead(logits: Tensor) -> Tensor:
        chosen = logits.gather(1, targets)
        return chosen - logits.mean(1, keepdim=True) if contrasted else chosen

    used, found = list(range(len(recording.calls))), []
    with gradients_along_skips(recording, lead, used) as chunks:
        for gradients in chunks:
            with torch.no_grad():
                found.append(torch.stack([_contributions(recording, call, next(gradients)) for call in used]).sum(0))
        with torch.no_grad():  # in here, where autocast is off
            maps = _scale(_spread(recording, torch.cat(found).transpose(0, 1)).relu())
    return maps.reshape(*targets.shape, *recording.grid).float()


def _contributions(recording: Recording, call: int, gradient: Tensor) -> Tensor:
    """Sum A ⊙ ∂z / ∂A over heads and query rows for one attention call: (T, B, h·w)."""
    attention = recording.calls[call].scores().to(gradient.dtype).softmax(-1)
    return patch_columns(recording, (gradient * attention).sum((2, 3)))


def _spread(recording: Recording, contributions: Tensor) -> Tensor:
    """Average contributions (B, T, h·w) over patches with similar values in the last block."""
    value = recording.calls[-1].value.to(contributions.dtype)
    patches = patch_columns(recording, value.transpose(-2, -1)).flatten(1, 2).transpose(-2, -1)
    similar = F.normalize(patches - patches.mean(1, keepdim=True), dim=-1)
    # an attention of its own, which need not keep W, h·w × h·w numbers an image
    spread = F.scaled_dot_product_attention(similar, similar, contributions.mT, scale=1 / _TEMPERATURE)
    return spread.mT


def _scale(maps: Tensor) -> Tensor:
    """Scale maps (B, T, h·w) ≥ 0 to [0, 1], by a power that takes their mean to 0.5; a constant map becomes all 0."""
    low, high = maps.aminmax(dim=-1, keepdim=True)
    varied = high - low > _ROUNDING * high
    unit = torch.where(varied, (maps - low) / torch.where(varied, high - low, 1), 0)
    mean = torch.where(varied, unit.mean(-1, keepdim=True), 0.5)
    return unit ** (math.log(0.5) / mean.log())
