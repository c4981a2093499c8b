"""The image towers of open_clip that are its own; those of timm inside it are timm's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from agcam.explainers.family_registry import defined_in, register_family
from agcam.explainers.patch_embedding import convolution_embedding
from agcam.explainers.vit_parts import ViTParts, refusal


@register_family(
    library="open_clip",
    help="model.visual with score=agcam.similarity(text_features): ViT towers, those with a timm trunk as timm; CoCa's "
    "attention pooling; no ResNets.",
)
def open_clip(module: nn.Module) -> ViTParts | None:
    """Find the parts of a `VisionTransformer` of open_clip."""
    if not defined_in(module, "open_clip") or not hasattr(module, "conv1") or not hasattr(module, "class_embedding"):
        return None
    backbone: Any = module
    layers, pooler = list(backbone.transformer.resblocks), backbone.attn_pool
    if getattr(backbone, "attn_pool_contrastive", None) is not None:
        raise refusal(module, "has two attention poolings")
    parts = ViTParts(
        backbone,
        layers,
        num_prefix_tokens=1,
        attentions=_attentions(layers),
        embedding=convolution_embedding(backbone.conv1, backbone.image_size),
        layers=layers,
        has_classifier=False,
    )
    if pooler is None:
        return parts
    return replace(parts, blocks=[pooler.attn], attentions=[pooler.attn], pools_by_attention=True, unpooled=parts)


def _attentions(blocks: list[nn.Module]) -> list[nn.Module]:
    return [module for block in blocks for module in block.modules() if hasattr(module, "in_proj_weight")]
