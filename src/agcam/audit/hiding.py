"""Does the model need what it looks at outside the object? Hide it, and see what is left of the probability.

Heat outside an object says where a model looks, not that its decision rests on it. So the hottest patches there are
replaced by the mean color, and for comparison as many others there, drawn at random.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agcam.evaluating import evaluating

SHARE = 0.1
"""The share of all patches that is hidden; at most half of those outside."""
DRAWS = 2
"""How often other patches are drawn."""


def choose_hidden(heat: Tensor, outside: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the hottest patches outside, and as many others outside at random.

    Args:
        heat: (P, h, w).
        outside: (P, h, w) bool.
        seeds: (P,) int64; equal seeds draw equally, whatever the batch.

    Returns:
        (P, h, w) bool, none where fewer than two patches are outside, and (DRAWS, P, h, w) bool.
    """
    flat, allowed = heat.flatten(1), outside.flatten(1)
    most = max(1, round(SHARE * flat.shape[1]))
    counts = (allowed.sum(1) // 2).clamp(max=most)[:, None]
    hottest = _first(flat.masked_fill(~allowed, -1), counts)
    others = []
    for draw in range(DRAWS):
        drawn = flat.new_zeros(flat.shape)
        for row, seed in enumerate(seeds.tolist()):
            drawn[row] = _random(int(seed) * DRAWS + draw, flat.shape[1])
        others.append(_first(drawn.masked_fill(~allowed | hottest, -1), counts))
    return hottest.view_as(outside), torch.stack(others).view(DRAWS, *outside.shape)


def probability_without(
    model: nn.Module, images: Tensor, targets: Tensor, hidden: Tensor, extent: tuple[int, int], multilabel: bool
) -> Tensor:
    """Return the probability (P,) of the targets (P,) in images (P, 3, H, W) without the patches `hidden` (P, h, w).

    They get the value 0, which is the mean color of normalized images.

    Args:
        model: gives logits.
        images: normalized.
        targets: class indices.
        hidden: bool, true on the patches to hide.
        extent: height and width in pixels that the patches cover.
        multilabel: whether probabilities are a sigmoid for each class instead of a softmax.
    """
    height, width = images.shape[-2:]
    pixels = F.interpolate(hidden[:, None].float(), size=extent, mode="nearest")[:, :, :height, :width] > 0
    pixels = F.pad(pixels, (0, width - pixels.shape[3], 0, height - pixels.shape[2]))
    with evaluating(model), torch.no_grad():
        logits = model(images.masked_fill(pixels, 0)).float()
    return target_probability(logits, targets, multilabel)


def target_probability(logits: Tensor, targets: Tensor, multilabel: bool) -> Tensor:
    """Return the probability (P,) of the targets (P,) in logits (P, C)."""
    found = logits.sigmoid() if multilabel else logits.softmax(1)
    return found.gather(1, targets[:, None])[:, 0]


def _first(values: Tensor, counts: Tensor) -> Tensor:
    """Return the `counts` (P, 1) largest values of each row (P, N) as bool."""
    ranks = values.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return ranks < counts


def _random(seed: int, count: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))
