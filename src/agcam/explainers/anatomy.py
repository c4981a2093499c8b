"""Where a ViT keeps the parts that the tape records and the replay walks: blocks, final norm, head, patch grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from agcam.errors import ModelError

_PREFIX = "agcam explains Vision Transformers of timm (vit, deit, dinov2, eva, beit, …)"


@dataclass(frozen=True)
class Anatomy:
    """The parts of a timm ViT.

    Attributes:
        backbone: the bare model.
        blocks: the transformer blocks in order.
        rows: the token rows that the head reads. The class token, both tokens of a distilled DeiT, or every
            token for a model that pools over tokens.
        num_prefix_tokens: class, distillation and register tokens before the patches.
    """

    backbone: nn.Module
    blocks: list[nn.Module]
    rows: slice
    num_prefix_tokens: int

    @property
    def name(self) -> str:
        """The model's timm name, or its class."""
        cfg = getattr(self.backbone, "pretrained_cfg", None) or {}
        return str(cfg.get("architecture") or type(self.backbone).__name__)

    def head(self, tokens: Tensor) -> Tensor:
        """Final norm, pooling and head: (B, R, D) rows of the last block to (B, C) logits."""
        norm = cast(nn.Module, self.backbone.norm)
        return cast(Tensor, self.backbone.forward_head(norm(tokens)))  # type: ignore[operator]  # timm's method

    def grid(self, images: Tensor) -> tuple[int, int]:
        """The patch grid (h, w) for images (B, 3, H, W)."""
        h, w = self.backbone.patch_embed.dynamic_feat_size(tuple(images.shape[-2:]))  # type: ignore[union-attr,operator]  # timm's
        return int(h), int(w)


def unwrap(model: nn.Module) -> nn.Module:
    """The bare timm model inside DDP, `torch.compile` or a LightningModule with a `backbone`."""
    while True:
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None) or getattr(model, "backbone", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def dissect(model: nn.Module) -> Anatomy:
    """Find the parts of `model`.

    Raises:
        ModelError: if it is no ViT that can be explained, with what was found instead.
    """
    backbone = unwrap(model)
    name = type(backbone).__name__
    blocks = getattr(backbone, "blocks", None)
    missing = [
        part for part in ("blocks", "norm", "head", "patch_embed", "forward_head") if not hasattr(backbone, part)
    ]
    if missing or not isinstance(blocks, nn.Sequential | nn.ModuleList) or not len(blocks):
        found = f"has no {', '.join(missing)}" if missing else "has blocks of an unknown kind"
        raise ModelError(f"{name} cannot be explained: it {found}. {_PREFIX}.")
    pool = getattr(backbone, "global_pool", "token")
    if getattr(backbone, "attn_pool", None) is not None or pool not in ("token", "avg", "avgmax", "max"):
        raise ModelError(f"{name} cannot be explained: it pools by {pool!r}. {_PREFIX} with token or average pooling.")
    tokens = 2 if getattr(backbone, "head_dist", None) is not None else 1
    rows = slice(0, tokens) if pool == "token" else slice(None)
    return Anatomy(backbone, list(blocks), rows, int(getattr(backbone, "num_prefix_tokens", 1)))
