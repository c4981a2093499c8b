"""torchvision's `vit_b_16` and its sisters."""

from __future__ import annotations

from typing import Any

from torch import nn

from agcam.explainers.family_registry import defined_in, register_family
from agcam.explainers.patch_embedding import convolution_embedding
from agcam.explainers.vit_parts import ViTParts


@register_family(library="torchvision", help="vit_b_16, vit_b_32, vit_l_16, vit_l_32, vit_h_14; no Swin, no MaxViT.")
def torchvision(module: nn.Module) -> ViTParts | None:
    """Find the parts of a `VisionTransformer` of torchvision."""
    if not defined_in(module, "torchvision") or not hasattr(module, "conv_proj") or not hasattr(module, "encoder"):
        return None
    backbone: Any = module
    convolution = backbone.conv_proj
    if not isinstance(convolution, nn.Conv2d):  # a stem of convolutions, of which the last one makes the tokens
        return None
    blocks = list(backbone.encoder.layers)
    return ViTParts(
        backbone,
        blocks,
        num_prefix_tokens=1,
        attentions=[each for block in blocks for each in block.modules() if isinstance(each, nn.MultiheadAttention)],
        embedding=convolution_embedding(convolution, backbone.image_size),
        has_classifier=not isinstance(backbone.heads, nn.Identity),
    )
