"""How a ViT cuts images into patches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class PatchEmbedding:
    """What makes patches of images.

    Attributes:
        module: what is called with the images (B, C, H, W) first.
        channels: of the images.
        grid: from the height and width of images to rows and columns of patches.
        misfit: from height, width and the ViT's name to what is wrong with images of that size, "" if nothing is.
        patch: height and width of a patch in pixels; None if patches cover the images whatever their size.
        size: (H, W) of the images that it was made for; None where it does not say.
    """

    module: nn.Module
    channels: int
    grid: Callable[[int, int], tuple[int, int]]
    misfit: Callable[[int, int, str], str]
    patch: tuple[int, int] | None = None
    size: tuple[int, int] | None = None


def convolution_embedding(convolution: nn.Conv2d, size: Any = None, module: nn.Module | None = None) -> PatchEmbedding:
    """Describe patches that a convolution cuts out, whose stride is its kernel.

    Args:
        convolution: the one that makes a token of each patch.
        size: the only size of images that the ViT takes, an int or (H, W); None if it takes any.
        module: what the images are given to, if it is not the convolution itself.
    """
    only = (size, size) if isinstance(size, int) else size

    def grid(height: int, width: int) -> tuple[int, int]:
        (down, across), (high, wide) = convolution.kernel_size, convolution.stride
        return (height - down) // high + 1, (width - across) // wide + 1

    def misfit(height: int, width: int, name: str) -> str:
        if only is not None and (height, width) != tuple(only):
            return f"{name} takes {only[0]}×{only[1]}; resize them"
        if min(grid(height, width)) < 1:
            return f"less than a patch of {name}, {convolution.kernel_size[0]}×{convolution.kernel_size[1]}"
        return ""

    patch = (convolution.stride[0], convolution.stride[1])
    return PatchEmbedding(module or convolution, convolution.in_channels, grid, misfit, patch, only)
