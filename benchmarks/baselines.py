"""What agcam is measured against: plain forwards, and the same heatmap by plain autograd over attention matrices."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class _KeepAttention(TorchFunctionMode):
    """Compute attention step by step on detached inputs; keep scores and attention of every call."""

    def __init__(self) -> None:
        super().__init__()
        self.scores: list[Tensor] = []
        self.attention: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = (t.detach() for t in args[:3])
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        attention = scores.softmax(-1).requires_grad_()
        self.scores.append(scores)
        self.attention.append(attention)
        return attention @ value


def eager(model: nn.Module, images: Tensor) -> Tensor:
    """Compute AG-CAM (B, N) of the predicted class of a class-token ViT by one backward pass over all tokens."""
    with _KeepAttention() as kept:
        logits = model(images)
    top = logits.max(1).values.sum()
    gradients = torch.autograd.grad(top, kept.attention)
    return sum(_map(s, g) for s, g in zip(kept.scores, gradients, strict=True))


def one_image_at_a_time(model: nn.Module, images: Tensor) -> Tensor:
    """Compute the same image by image, with gradients of all parameters too: the usual research script."""
    maps = []
    for image in images:
        model.zero_grad()
        with _KeepAttention() as kept:
            logits = model(image[None])
        for attention in kept.attention:
            attention.retain_grad()
        logits.max().backward()
        maps.append(sum(_map(s, a.grad) for s, a in zip(kept.scores, kept.attention, strict=True)))
    model.zero_grad(set_to_none=True)
    return torch.cat(maps)


def _map(scores: Tensor, gradient: Tensor) -> Tensor:
    return (scores[:, :, 0, 1:].sigmoid() * gradient[:, :, 0, 1:].relu()).sum(1)


def plain_forwards(model: nn.Module, images: Tensor, count: int, batch_size: int = 16) -> None:
    """Run the model `count` times on each image (B, 3, H, W), in batches that are full wherever they can be."""
    rows = torch.arange(len(images), device=images.device).repeat(count)
    with torch.inference_mode():
        for part in rows.split(batch_size):
            model(images[part])
