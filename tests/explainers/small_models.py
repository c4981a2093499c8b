"""Small ViTs with well-spread random weights, and images for them."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

CLASSES = 5
GRID = (4, 4)


def small_model(name: str = "vit_tiny_patch16_224", seed: int = 0, **changes: Any) -> nn.Module:
    """A timm model cut down to two blocks, 4×4 patches of 8 pixels and five classes, in evaluation mode."""
    size = {} if name.startswith("naflexvit") else {"img_size": 32}
    cut = {"patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": CLASSES, **size}
    return spread(timm.create_model(name, **(cut | changes)), seed)


def spread(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights large enough that every part matters: as initialised, attention is uniform and layer scales are tiny."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            if parameter.dim() < 2:
                gain = name.endswith(("weight", "gamma", "gamma_1", "gamma_2"))
                parameter.copy_(gain + 0.2 * noise)
            elif any(part in name for part in ("token", "embed.", "pos_embed", "latent", "table")):
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(1.5 * noise / parameter[0].numel() ** 0.5)
    return model.eval()


def random_images(height: int = 32, width: int = 32, batch: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def error(found: Tensor, expected: Tensor) -> float:
    """The largest difference of two maps (B, T, h, w), relative to the expected map's maximum."""
    difference = (found - expected).abs().amax((2, 3))
    return float((difference / expected.amax((2, 3))).max())
