"""Where a ViT keeps the parts that the tape records and the replay walks: blocks, final norm, head, patch grid."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import mod
from typing import Any, cast

import torch
from torch import Tensor, nn

from agcam.errors import InputError, ModelError

_KNOWN = "agcam explains Vision Transformers of timm (vit, deit, dinov2, eva, beit, cait, …)"
# the projections inside attention modules whose results an answered attention call does not read
_PROJECTIONS = {"qkv", "q_proj", "k_proj", "v_proj", "q", "k", "v", "kv"}


@dataclass(frozen=True)
class ViTParts:
    """The parts of a ViT.

    Attributes:
        backbone: the bare model.
        blocks: the modules whose attention is explained, in order: the transformer blocks; CaiT's class-attention
            blocks; the attention pooling alone for a model that has one, since no gradient passes below it.
        rows: the token rows that the head reads. The class token, both tokens of a distilled DeiT, the latent
            query of an attention pooling, or every token for a model that pools over tokens.
        num_prefix_tokens: class, distillation and register tokens before the patches in the columns of `blocks`'
            attention; an attention pooling may look at patches only.
        attentions: the attention modules in `blocks`, and blocks that do their own attention.
        class_attention: whether `blocks` are called as CaiT's: patches first, then the class token.
        head: from the rows of the last block (B, R, D), or the pooling's answer (B, D), to the logits (B, C).
        embedding: the patch embedding.
    """

    backbone: nn.Module
    blocks: list[nn.Module]
    rows: slice
    num_prefix_tokens: int
    attentions: list[nn.Module]
    class_attention: bool
    head: Callable[[Tensor], Tensor]
    embedding: Any

    @property
    def name(self) -> str:
        """The model's timm name, or its class."""
        return model_name(self.backbone)

    def entering(self, args: tuple[Any, ...]) -> Tensor:
        """Take the rows (B, R, D) that the head reads from the arguments that `blocks[0]` is called with."""
        return cast(Tensor, args[1 if self.class_attention else 0][:, self.rows])

    def walk(self, tokens: Tensor) -> Tensor:
        """Run the rows (B, R, D) that enter `blocks[0]` through the model's own modules, to the logits (B, C)."""
        for block in self.blocks:
            tokens = block(tokens[:, :0], tokens) if self.class_attention else block(tokens)
        return self.head(tokens)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Return the patch grid (h, w) for images (B, 3, H, W)."""
        h, w = self.embedding.dynamic_feat_size(tuple(images.shape[-2:]))
        return int(h), int(w)

    def unread_weights(self) -> list[Tensor]:
        """Return the weights of the projections to query, key and value, adapters on them included."""
        return [
            module.weight
            for attention in self.attentions
            for name, projection in attention.named_children()
            if name in _PROJECTIONS
            for module in projection.modules()
            if isinstance(module, nn.Linear)
        ]


def model_name(model: nn.Module) -> str:
    """Return the timm name of a bare model, or its class."""
    cfg = getattr(model, "pretrained_cfg", None) or {}
    return str(cfg.get("architecture") or type(model).__name__)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the bare timm model inside DDP, `torch.compile` or a LightningModule with a `backbone`."""
    while True:
        # not `or`: a compiled module asks what it wraps for its truth, its length
        inner = (getattr(model, wrapped, None) for wrapped in ("_orig_mod", "module", "backbone"))
        found = next((module for module in inner if isinstance(module, nn.Module)), None)
        if found is None:
            return model
        model = found


def inspect_vit(model: nn.Module) -> ViTParts:
    """Find the parts of `model`.

    Raises:
        ModelError: if it is no ViT that can be explained, with what was found instead.
    """
    backbone = unwrap(model)
    blocks, embedding = getattr(backbone, "blocks", None), _embedding(backbone)
    missing = [part for part in ("blocks", "norm", "head", "forward_head") if not hasattr(backbone, part)]
    missing += ["patch_embed"] * (embedding is None)
    if missing:
        found = ", ".join(name for name, _ in backbone.named_children()) or "no modules"
        raise _refusal(backbone, f"has no {', '.join(missing)} (found {found})")
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or not len(blocks):
        raise _refusal(backbone, f"keeps its blocks in {type(blocks).__name__}")
    kind = type(embedding).__name__
    if hasattr(embedding, "backbone"):
        raise _refusal(backbone, f"is a hybrid whose tokens come from another network ({kind}), not from patches")
    if not hasattr(embedding, "dynamic_feat_size"):
        raise _refusal(backbone, f"has an unknown patch embedding, {kind}")
    return _read_by_head(backbone, list(blocks), embedding)


def check_fit(parts: ViTParts, images: Tensor) -> None:
    """Raise `InputError` if the model cannot take images (B, 3, H, W) of this size, type or device."""
    embed, channels = parts.embedding, getattr(parts.backbone, "in_chans", 3)
    if images.shape[1] != channels:
        raise InputError(f"images have {images.shape[1]} channels, {parts.name} takes {channels}: (B, C, H, W)")
    size, found = getattr(embed, "img_size", None), tuple(images.shape[-2:])
    patch = tuple(getattr(embed, "patch_size", (1, 1)))
    if size is not None and getattr(embed, "strict_img_size", False):
        if found != tuple(size):
            raise InputError(
                f"images are {_pixels(found)}, {parts.name} takes {_pixels(size)}; resize them, or create the model "
                "with img_size or dynamic_img_size=True"
            )
    elif min(found) < 1 or (any(map(mod, found, patch)) and not getattr(embed, "dynamic_img_pad", False)):
        raise InputError(f"images are {_pixels(found)}, no multiple of the patches of {parts.name}, {_pixels(patch)}")
    weight = next(embed.parameters(), images)
    if images.device != weight.device:
        raise InputError(f"images are on {images.device}, {parts.name} is on {weight.device}; move one of them")
    if images.dtype != weight.dtype and not torch.is_autocast_enabled(images.device.type):
        raise InputError(f"images are {images.dtype}, {parts.name} is {weight.dtype}; convert one of them")


@contextmanager
def traceable(parts: ViTParts) -> Iterator[None]:
    """Make every attention a `scaled_dot_product_attention` that a torch function mode sees."""
    unfused = [module for module in parts.attentions if not module.fused_attn]
    for module in unfused:
        module.fused_attn = cast(Any, True)
    # compiled code runs no Python that could be seen; where nothing was compiled, importing dynamo takes seconds
    stance = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else None
    try:
        yield
    finally:
        if stance is not None:
            stance.__exit__(None, None, None)
        for module in unfused:
            module.fused_attn = cast(Any, False)


def _read_by_head(backbone: Any, blocks: list[nn.Module], embedding: nn.Module) -> ViTParts:
    """Find the parts whose attention reaches the logits, by how the head reads the tokens."""
    pool, attention_pool = getattr(backbone, "global_pool", "token"), getattr(backbone, "attn_pool", None)
    class_blocks, prefix = getattr(backbone, "blocks_token_only", None), getattr(backbone, "num_prefix_tokens", 1)

    def head(tokens: Tensor) -> Tensor:
        return cast(Tensor, backbone.forward_head(backbone.norm(tokens)))

    def head_of_pooled(pooled: Tensor) -> Tensor:
        return cast(Tensor, backbone.head(backbone.head_drop(backbone.fc_norm(pooled))))

    if class_blocks is not None:
        if pool != "token" or not len(class_blocks):
            raise _refusal(backbone, f"has class-attention blocks but pools by {pool!r}, so that nobody reads them")
        blocks = list(class_blocks)
        return ViTParts(backbone, blocks, slice(0, 1), prefix, _attentions(blocks), True, head, embedding)
    if attention_pool is not None:
        blocks, rows = [attention_pool], slice(0, 1 if getattr(attention_pool, "pool", "") == "token" else None)
        prefix = prefix if getattr(backbone, "pool_include_prefix", True) else 0
        return ViTParts(backbone, blocks, rows, prefix, _attentions(blocks), False, head_of_pooled, embedding)
    if pool not in ("token", "avg", "avgmax", "max"):
        raise _refusal(backbone, f"pools by {pool!r}, not by token, average, maximum or attention")
    rows = slice(None) if pool != "token" else slice(0, 2 if hasattr(backbone, "head_dist") else 1)
    return ViTParts(backbone, blocks, rows, prefix, _attentions(blocks), False, head, embedding)


def _attentions(blocks: list[nn.Module]) -> list[nn.Module]:
    # every attention of timm has this switch
    return [module for block in blocks for module in block.modules() if hasattr(module, "fused_attn")]


def _embedding(backbone: nn.Module) -> Any:
    return getattr(backbone, "patch_embed", getattr(backbone, "embeds", None))


def _refusal(backbone: nn.Module, found: str) -> ModelError:
    name, kind = model_name(backbone), type(backbone).__name__
    return ModelError(f"{name}{'' if name == kind else f' ({kind})'} cannot be explained: it {found}. {_KNOWN}.")


def _pixels(size: Any) -> str:
    return "×".join(str(side) for side in size)
