"""Where a ViT keeps the parts that the tape records and the replay walks: blocks, final norm, head, patch grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from operator import mod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from agcam.errors import InputError, ModelError
from agcam.evaluating import switched
from agcam.explainers.eager_stance import running_eagerly

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

    @property
    def has_classifier(self) -> bool:
        """Whether the ViT has a head of its own."""
        # not timm's num_classes: people replace the head alone
        return not isinstance(getattr(self.backbone, "head", None), nn.Identity)

    @property
    def pools_nothing(self) -> bool:
        """Whether the ViT returns all of its tokens."""
        return getattr(self.backbone, "global_pool", None) == "" and getattr(self.backbone, "attn_pool", None) is None

    def of_features(self) -> ViTParts:
        """Return the parts for a model that calls `forward_features` itself and may read every token.

        Raises:
            ModelError: for CaiT, whose patches the walk does not follow.
        """
        backbone: Any = self.backbone
        if self.class_attention:
            raise _refusal(backbone, "keeps its class token apart, and its `forward_features` was called, not itself")
        blocks, prefix = list(backbone.blocks), getattr(backbone, "num_prefix_tokens", 1)
        norm = cast(Callable[[Tensor], Tensor], backbone.norm)
        attentions = _attentions(blocks)
        return replace(
            self, blocks=blocks, rows=slice(None), num_prefix_tokens=prefix, attentions=attentions, head=norm
        )

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
    """Return the model that DDP, DataParallel or `torch.compile` wrap: they compute nothing of their own."""
    while True:
        wraps = isinstance(model, DistributedDataParallel | DataParallel)
        # a compiled module hands on what it is asked for: `vars` sees what is its own
        inner: object = model.module if wraps else vars(model).get("_modules", {}).get("_orig_mod")
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def inspect_vit(model: nn.Module, vit: str | None = None) -> ViTParts:
    """Find the ViT that is `model` or that `model` contains, and its parts.

    Args:
        model: any module.
        vit: the name of the ViT among the model's modules, such as "encoder.trunk", where there are several.

    Raises:
        InputError: if there are several ViTs and `vit` names none of them.
        ModelError: if there is no ViT that can be explained, with what was found instead.
    """
    backbone = _find_vit(unwrap(model), vit)
    blocks, embedding = getattr(backbone, "blocks", None), _embedding(backbone)
    if missing := _missing(backbone):
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


def _find_vit(model: nn.Module, name: str | None) -> nn.Module:
    found: dict[str, nn.Module] = {path: each for path, each in model.named_modules() if not _missing(each)}
    # what a compiled ViT wraps is the same one
    found = {path: module for path, module in found.items() if "_orig_mod" not in vars(module)["_modules"]}
    if name is not None:
        modules = dict(model.named_modules())
        if name not in modules:
            known = ", ".join(repr(path) for path in found) or "none"
            raise InputError(f"{model_name(model)} has no module {name!r}; its ViTs are {known}")
        return unwrap(modules[name])
    if len(found) > 1:
        known = ", ".join(repr(path) for path in found)
        raise InputError(
            f"{model_name(model)} has several ViTs, {known}; say which to explain, such as vit={next(iter(found))!r}"
        )
    if found:
        return next(iter(found.values()))
    inner = getattr(model, "backbone", None)  # of which the error can tell more
    return inner if isinstance(inner, nn.Module) else model


def _missing(module: nn.Module) -> list[str]:
    """Name the parts of a ViT that `module` does not have."""
    missing = [part for part in ("blocks", "norm", "head", "forward_head") if not hasattr(module, part)]
    return missing + ["patch_embed"] * (_embedding(module) is None)


def check_fit(parts: ViTParts, images: Tensor, same_dtype: bool = True) -> None:
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
    if same_dtype and images.dtype != weight.dtype and not torch.is_autocast_enabled(images.device.type):
        raise InputError(f"images are {images.dtype}, {parts.name} is {weight.dtype}; convert one of them")


@contextmanager
def traceable(parts: ViTParts) -> Iterator[None]:
    """Make every attention a `scaled_dot_product_attention` that a torch function mode sees."""
    with switched(_attentions([parts.backbone]), "fused_attn", True), running_eagerly():
        yield


def without_checkpointing(model: nn.Module) -> AbstractContextManager[None]:
    """Switch timm's gradient checkpointing off.

    It would run the blocks once more in backward, when no mode is there to compute or answer their attention.
    """
    checkpointing = [module for module in model.modules() if hasattr(module, "grad_checkpointing")]
    return switched(checkpointing, "grad_checkpointing", False)


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
    if pool not in ("token", "avg", "avgmax", "max", ""):
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
    if isinstance(backbone, torch.fx.GraphModule | torch.jit.ScriptModule):
        found += " and was exported, traced or scripted; explain the module that it was made of"
    return ModelError(f"{name}{'' if name == kind else f' ({kind})'} cannot be explained: it {found}. {_KNOWN}.")


def _pixels(size: Any) -> str:
    return "×".join(str(side) for side in size)
