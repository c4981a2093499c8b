"""timm's ViTs, and those that are made of the same parts: `patch_embed`, `blocks`, `norm`, `forward_head`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import mod
from typing import Any, cast

from torch import Tensor, nn

from agcam.evaluating import switched
from agcam.explainers.family_registry import register_family
from agcam.explainers.patch_embedding import PatchEmbedding
from agcam.explainers.vit_parts import ViTParts, refusal
from agcam.module_tree import all_modules


@register_family(
    library="timm",
    help="vit, deit, deit3, dinov2, dinov3, eva, eva02, beit, cait, clip, siglip, flexivit, naflexvit, aimv2 and "
    "others with a class token, pooling over tokens or attention pooling; no hybrids, no Swin.",
)
def timm(module: nn.Module) -> ViTParts | None:
    """Find the parts of a ViT of timm."""
    if not hasattr(module, "blocks") or missing_parts(module):
        return None
    blocks, embedding = getattr(module, "blocks", None), _embedding(module)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or not len(blocks):
        raise refusal(module, f"keeps its blocks in {type(blocks).__name__}")
    kind = type(embedding).__name__
    if hasattr(embedding, "backbone"):
        raise refusal(module, f"is a hybrid whose tokens come from another network ({kind}), not from patches")
    if not hasattr(embedding, "dynamic_feat_size"):
        raise refusal(module, f"has an unknown patch embedding, {kind}")
    return _read_by_head(module, list(blocks), _patches(module, embedding))


def missing_parts(module: nn.Module) -> list[str]:
    """Name the parts of a ViT of timm that `module` does not have."""
    missing = [part for part in ("blocks", "norm", "head", "forward_head") if not hasattr(module, part)]
    return missing + ["patch_embed"] * (_embedding(module) is None)


def parts_of_features(parts: ViTParts) -> ViTParts:
    """Return the parts for a model that calls `forward_features` itself and may read every token.

    Raises:
        ModelError: for CaiT, whose patches the walk does not follow.
    """
    backbone: Any = parts.backbone
    if parts.class_attention:
        raise refusal(backbone, "keeps its class token apart, and its `forward_features` was called, not itself")
    blocks, prefix = list(backbone.blocks), getattr(backbone, "num_prefix_tokens", 1)
    norm = cast(Callable[[Tensor], Tensor], backbone.norm)
    return replace(
        parts,
        blocks=blocks,
        rows=slice(None),
        num_prefix_tokens=prefix,
        attentions=_attentions(blocks),
        head=norm,
        pools_by_attention=False,
    )


def _read_by_head(backbone: Any, blocks: list[nn.Module], embedding: PatchEmbedding) -> ViTParts:
    """Find the parts whose attention reaches the logits, by how the head reads the tokens."""
    pool, attention_pool = getattr(backbone, "global_pool", "token"), getattr(backbone, "attn_pool", None)
    class_blocks, prefix = getattr(backbone, "blocks_token_only", None), getattr(backbone, "num_prefix_tokens", 1)

    def head(tokens: Tensor) -> Tensor:
        return cast(Tensor, backbone.forward_head(backbone.norm(tokens)))

    def head_of_pooled(pooled: Tensor) -> Tensor:
        return cast(Tensor, backbone.head(backbone.head_drop(backbone.fc_norm(pooled))))

    if pool not in ("token", "avg", "avgmax", "max", "") and class_blocks is None and attention_pool is None:
        raise refusal(backbone, f"pools by {pool!r}, not by token, average, maximum or attention")
    rows = slice(None) if pool != "token" else slice(0, 2 if hasattr(backbone, "head_dist") else 1)
    parts = ViTParts(
        backbone,
        blocks,
        prefix,
        _attentions(blocks),
        embedding,
        rows,
        head=head,
        layers=blocks,
        has_classifier=not isinstance(
            backbone.head, nn.Identity
        ),  # not timm's num_classes: people replace the head alone
        visible=partial(switched, _attentions([backbone]), "fused_attn", True),
    )
    if class_blocks is not None:
        if pool != "token" or not len(class_blocks):
            raise refusal(backbone, f"has class-attention blocks but pools by {pool!r}, so that nobody reads them")
        found = list(class_blocks)
        return replace(parts, blocks=found, rows=slice(0, 1), attentions=_attentions(found), class_attention=True)
    if attention_pool is not None:
        return replace(
            parts,
            blocks=[attention_pool],
            rows=slice(0, 1 if getattr(attention_pool, "pool", "") == "token" else None),
            num_prefix_tokens=prefix if getattr(backbone, "pool_include_prefix", True) else 0,
            attentions=_attentions([attention_pool]),
            head=head_of_pooled,
            pools_by_attention=True,
        )
    return parts


def _patches(backbone: nn.Module, embedding: Any) -> PatchEmbedding:
    def grid(height: int, width: int) -> tuple[int, int]:
        h, w = embedding.dynamic_feat_size((height, width))
        return int(h), int(w)

    def misfit(height: int, width: int, name: str) -> str:
        size, patch = getattr(embedding, "img_size", None), tuple(getattr(embedding, "patch_size", (1, 1)))
        if size is not None and getattr(embedding, "strict_img_size", False):
            if (height, width) == tuple(size):
                return ""
            return (
                f"{name} takes {_pixels(size)}; resize them, or create the model with img_size or dynamic_img_size=True"
            )
        whole = not any(map(mod, (height, width), patch)) or getattr(embedding, "dynamic_img_pad", False)
        if min(height, width) >= 1 and whole:
            return ""
        return f"no multiple of the patches of {name}, {_pixels(patch)}"

    made_for, patch = (_pair(getattr(embedding, name, None)) for name in ("img_size", "patch_size"))
    return PatchEmbedding(embedding, getattr(backbone, "in_chans", 3), grid, misfit, patch, made_for)


def _attentions(blocks: list[nn.Module]) -> list[nn.Module]:
    # every attention of timm has this switch
    return [module for block in blocks for module in all_modules(block) if hasattr(module, "fused_attn")]


def _embedding(backbone: nn.Module) -> Any:
    return getattr(backbone, "patch_embed", getattr(backbone, "embeds", None))


def _pixels(size: Any) -> str:
    return "×".join(str(side) for side in size)


def _pair(size: Any) -> tuple[int, int] | None:
    return None if size is None else (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
