"""The parts of a ViT that the tape records and the replay runs: blocks, attention, the rows read, the patch grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from agcam.errors import InputError, ModelError
from agcam.evaluating import switched
from agcam.explainers.eager_stance import running_eagerly
from agcam.explainers.multihead_attention import visible_attention
from agcam.explainers.patch_embedding import PatchEmbedding
from agcam.module_tree import all_modules

_KNOWN = "agcam explains Vision Transformers of timm, transformers, torchvision and open_clip (see agcam.families())"
# the projections inside attention modules whose results an answered attention call does not read
_PROJECTIONS = {"qkv", "q_proj", "k_proj", "v_proj", "q", "k", "v", "kv", "query", "key", "value"}
_NORMS = ("norm1", "layernorm_before", "layer_norm1", "ln_1", "rms_norm1")


@dataclass(frozen=True)
class ViTParts:
    """The parts of a ViT.

    A family whose `head` is None needs to say nothing of what happens after its blocks: its own code runs, with the
    recorded tokens in place of those that enter `blocks[0]`, and which rows are read of its last block is tried out.

    Attributes:
        backbone: the bare model.
        blocks: the modules whose attention is explained, in order: the transformer blocks; CaiT's class-attention
            blocks; the attention pooling alone for a model that has one, since no gradient passes below it. Each is
            called with tokens (B, N, D) first and returns tokens (B, N, D), or a tuple that begins with them.
        num_prefix_tokens: class, distillation and register tokens before the patches in the columns of `blocks`'
            attention; an attention pooling may look at patches only.
        attentions: the attention modules in `blocks`, and blocks that do their own attention.
        embedding: what makes patches of the images.
        rows: the token rows that the head reads. The class token, both tokens of a distilled DeiT, the latent
            query of an attention pooling, or every token for a model that pools over tokens, or where it is not known.
        row_choices: what is tried in place of every token where `head` is None, first to last.
        class_attention: whether `blocks` are called as CaiT's: patches first, then the class token.
        head: from the rows of the last block (B, R, D), or the pooling's answer (B, D), to what the ViT returns; None
            for a ViT whose own code is run.
        layers: all transformer blocks; `blocks`, if left out.
        pools_by_attention: whether `blocks` are an attention pooling.
        unpooled: the parts of the same ViT for a model that does not read its attention pooling; None if there is none.
        has_classifier: whether the ViT has a head of its own.
        visible: makes each attention a `scaled_dot_product_attention` that a torch function mode sees, in this thread.
            `nn.MultiheadAttention` needs none.
    """

    backbone: nn.Module
    blocks: list[nn.Module]
    num_prefix_tokens: int
    attentions: list[nn.Module]
    embedding: PatchEmbedding
    rows: slice = field(default_factory=partial(slice, None))  # before Python 3.12 slices pass for mutable
    row_choices: tuple[slice, ...] = (slice(0, 1),)
    class_attention: bool = False
    head: Callable[[Tensor], Tensor] | None = None
    layers: list[nn.Module] = field(default_factory=list)
    pools_by_attention: bool = False
    unpooled: ViTParts | None = None
    has_classifier: bool = True
    visible: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def name(self) -> str:
        """The model's timm name, or its class."""
        return model_name(self.backbone)

    @property
    def all_layers(self) -> list[nn.Module]:
        """All transformer blocks."""
        return self.layers or self.blocks

    def entering(self, args: tuple[Any, ...]) -> Tensor:
        """Take the rows (B, R, D) that the head reads from the arguments that `blocks[0]` is called with."""
        return cast(Tensor, args[1 if self.class_attention else 0][:, self.rows])

    def walk(self, tokens: Tensor) -> Tensor:
        """Run the rows (B, R, D) that enter `blocks[0]` through the model's own modules, to the logits (B, C)."""
        assert self.head is not None
        for block in self.blocks:
            tokens = block(tokens[:, :0], tokens) if self.class_attention else block(tokens)
        return self.head(tokens)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Return the patch grid (h, w) for images (B, 3, H, W)."""
        return self.embedding.grid(*images.shape[-2:])

    @property
    def runs_itself(self) -> bool:
        """Whether the ViT's own code is run, entered at its blocks, and the rows that are read are tried out."""
        return self.head is None

    @property
    def pools_nothing(self) -> bool:
        """Whether a ViT of timm returns all of its tokens."""
        return getattr(self.backbone, "global_pool", None) == "" and getattr(self.backbone, "attn_pool", None) is None

    def unread_weights(self) -> list[Tensor]:
        """Return the weights of the projections to query, key and value, adapters on them included."""
        joint = [attention.in_proj_weight for attention in self.attentions if hasattr(attention, "in_proj_weight")]
        return [weight for weight in joint if isinstance(weight, Tensor)] + [
            module.weight
            for attention in self.attentions
            for name, projection in attention.named_children()
            if name in _PROJECTIONS
            for module in projection.modules()
            if isinstance(module, nn.Linear)
        ]


def model_name(model: nn.Module) -> str:
    """Return the timm name of a bare model, or its class."""
    cfg = getattr(model, "pretrained_cfg", None)
    return str((cfg.get("architecture") if isinstance(cfg, dict) else None) or type(model).__name__)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model that DDP, DataParallel or `torch.compile` wrap: they compute nothing of their own."""
    while True:
        wraps = isinstance(model, DistributedDataParallel | DataParallel)
        # a compiled module hands on what it is asked for: `vars` sees what is its own
        inner: object = model.module if wraps else vars(model).get("_modules", {}).get("_orig_mod")
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def first_norm(block: nn.Module) -> nn.Module | None:
    """Return the norm before a block's attention, by the names that the libraries give it."""
    found = (getattr(block, name, None) for name in _NORMS)
    return next((norm for norm in found if isinstance(norm, nn.Module)), None)


def check_fit(parts: ViTParts, images: Tensor, same_dtype: bool = True) -> None:
    """Raise `InputError` if the model cannot take images (B, 3, H, W) of this size, type or device."""
    embedding, channels = parts.embedding, parts.embedding.channels
    if images.shape[1] != channels:
        raise InputError(f"images have {images.shape[1]} channels, {parts.name} takes {channels}: (B, C, H, W)")
    height, width = images.shape[-2:]
    if misfit := embedding.misfit(height, width, parts.name):
        raise InputError(f"images are {height}×{width}, {misfit}")
    weight = next(embedding.module.parameters(), images)
    if images.device != weight.device:
        raise InputError(f"images are on {images.device}, {parts.name} is on {weight.device}; move one of them")
    if same_dtype and images.dtype != weight.dtype and not torch.is_autocast_enabled(images.device.type):
        raise InputError(f"images are {images.dtype}, {parts.name} is {weight.dtype}; convert one of them")


@contextmanager
def traceable(parts: ViTParts) -> Iterator[None]:
    """Make every attention a `scaled_dot_product_attention` that a torch function mode sees."""
    with ExitStack() as stack:
        for attention in parts.attentions:
            if isinstance(attention, nn.MultiheadAttention):
                stack.enter_context(visible_attention(attention))
        stack.enter_context(parts.visible())
        stack.enter_context(running_eagerly())
        yield


def without_checkpointing(model: nn.Module) -> AbstractContextManager[None]:
    """Switch timm's gradient checkpointing off.

    It would run the blocks once more in backward, when no mode is there to compute or answer their attention.
    """
    checkpointing = [module for module in all_modules(model) if hasattr(module, "grad_checkpointing")]
    return switched(checkpointing, "grad_checkpointing", False)


def refusal(backbone: nn.Module, found: str) -> ModelError:
    """Make the error for a ViT of which `found` cannot be explained."""
    name, kind = model_name(backbone), type(backbone).__name__
    if isinstance(backbone, torch.fx.GraphModule | torch.jit.ScriptModule):
        found += " and was exported, traced or scripted; explain the module that it was made of"
    return ModelError(f"{name}{'' if name == kind else f' ({kind})'} cannot be explained: it {found}. {_KNOWN}.")
