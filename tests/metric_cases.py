"""Random heatmaps and objects, a tiny ViT, and what distributed processes do when they sum their states."""

from __future__ import annotations

import copy

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_sum

from agcam.metrics import sums

SIZE = (40, 48)


def random_heatmaps(count: int, seed: int = 0, grid: tuple[int, int] = (5, 6)) -> Tensor:
    return torch.rand(count, *grid, generator=torch.Generator().manual_seed(seed)) ** 2


def random_boxes(count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> list[Tensor]:
    """One to three boxes an image, with fractions of pixels."""
    g = torch.Generator().manual_seed(seed)
    sides = torch.tensor([size[1], size[0], size[1], size[0]], dtype=torch.float32)
    boxes = []
    for _ in range(count):
        n = int(torch.randint(1, 4, (), generator=g))
        corners = torch.rand(n, 2, 2, generator=g).sort(dim=1).values
        boxes.append(corners.flatten(1) * sides)
    return boxes


def random_masks(count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> Tensor:
    """Blobs of various sizes; every mask holds something."""
    coarse = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed + 100))
    return torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")[:, 0] > 0.6


def tiny_vit(seed: int = 0, size: int = 32) -> VisionTransformer:
    torch.manual_seed(seed)
    model = VisionTransformer(img_size=size, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=5)
    for parameter in model.parameters():  # fresh weights are too small for the logits to move
        parameter.data.normal_(0, 0.3)
    return model.eval()


def summed(*metrics: Metric) -> Metric:
    """One metric with the states of all added up, as a distributed run synchronises them."""
    total = copy.copy(metrics[0])
    total.reset()
    for name, reduction in total._reductions.items():
        assert reduction in (dim_zero_sum, sums.merged), f"{name} cannot be summed over processes"
        setattr(total, name, reduction(torch.stack([getattr(metric, name) for metric in metrics])))
    total._update_count = 1
    return total
