"""Models as people write them: a ViT somewhere inside, with steps before it and heads of their own after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from small_models import CLASSES, small_model, spread
from torch import Tensor, nn

WIDTH = 48


class OwnHead(nn.Module):
    """What most public code looks like: `self.backbone` without a classifier, and a head."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Any:
        return self.head(self.backbone(images))


class Calls(nn.Module):
    """Any forward around a ViT and a head."""

    def __init__(self, forward: Callable[[nn.Module, nn.Module, Tensor], Any], vit: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk = nn.ModuleDict({"vit": vit})
        self.classify = head
        self.forward_of = forward

    def forward(self, images: Tensor) -> Any:
        return self.forward_of(self.trunk["vit"], self.classify, images)


class Normalize(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return (images - 0.3) / 0.6


def features(**changes: Any) -> nn.Module:
    return small_model(**{"num_classes": 0, **changes})


def linear(width: int = WIDTH, classes: int = CLASSES, seed: int = 3) -> nn.Module:
    return spread(nn.Linear(width, classes), seed)


def deep_head(seed: int = 4) -> nn.Module:
    return spread(nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 20), nn.GELU(), nn.Linear(20, CLASSES)), seed)


def class_and_mean(vit: nn.Module, head: nn.Module, images: Tensor) -> Tensor:
    tokens = vit.forward_features(images)
    return head(torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1))


def patches_only(vit: nn.Module, head: nn.Module, images: Tensor) -> Tensor:
    return head(vit.forward_features(images)[:, 1:].mean(1))


def class_row(vit: nn.Module, head: nn.Module, images: Tensor) -> Tensor:
    return head(vit.forward_features(images)[:, 0])


def sign_flipped(vit: nn.Module, head: nn.Module, images: Tensor) -> Tensor:
    return -head(vit(-images))


def frozen(vit: nn.Module, head: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        found = vit(images)
    return head(found)


def inferred(vit: nn.Module, head: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        found = vit(images)
    return head(found.clone())


def switched_off(vit: nn.Module, head: nn.Module, images: Tensor) -> Tensor:
    return head(vit(images)).detach()
