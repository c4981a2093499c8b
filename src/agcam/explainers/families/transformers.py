"""The ViTs of Hugging Face transformers. The library is imported by whoever made the model, never from here."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from agcam.explainers.family_registry import defined_in, register_family
from agcam.explainers.own_thread import answered
from agcam.explainers.patch_embedding import convolution_embedding
from agcam.explainers.vit_parts import ViTParts, refusal

# whose patches keep their order from the embedding to the last layer; ViTMAE shuffles them, Swin moves windows
_KNOWN = {
    "Aimv2VisionModel",
    "BeitModel",
    "CLIPVisionModel",
    "Data2VecVisionModel",
    "DeiTModel",
    "Dinov2Model",
    "Dinov2WithRegistersModel",
    "DINOv3ViTModel",
    "IJepaModel",
    "MetaClip2VisionModel",
    "SiglipVisionModel",
    "ViTMSNModel",
    "ViTModel",
}
_REFUSED = {
    "HieraModel": "reorders its patches and pools them between layers",
    "PvtModel": "merges its patches between layers",
    "Siglip2VisionModel": "takes patches and their shapes, not images; the checkpoints of one resolution load as "
    "SiglipVisionModel",
    "SwinModel": "attends in windows that it shifts, and merges its patches",
    "Swinv2Model": "attends in windows that it shifts, and merges its patches",
    "ViTMAEModel": "shuffles its patches and drops most of them",
}
_LAYERS = ("layers", "layer")


@register_family(
    library="transformers",
    help="ViT, DeiT, DINOv2 (with registers), DINOv3, BEiT, Data2Vec, I-JEPA, MSN; the vision towers of CLIP, "
    "MetaCLIP 2, SigLIP and AIMv2; with sdpa and eager attention, Data2Vec with sdpa alone. TimmWrapper is explained "
    "as timm; no Swin, no MAE, no SigLIP 2 of any size.",
)
def transformers(module: nn.Module) -> ViTParts | None:
    """Find the parts of a ViT of transformers."""
    if not defined_in(module, "transformers"):
        return None
    names = [base.__name__ for base in type(module).__mro__]
    if reasons := [_REFUSED[name] for name in names if name in _REFUSED]:
        raise refusal(module, reasons[0])
    if _KNOWN.isdisjoint(names):
        return None
    backbone: Any = module
    layers, embeddings = _layers(backbone), backbone.embeddings
    convolution = next((each for each in embeddings.modules() if isinstance(each, nn.Conv2d)), None)
    if not layers or convolution is None:
        raise refusal(module, "has no layers or no convolution that makes patches")
    attentions = _attentions(layers)
    parts = ViTParts(
        backbone,
        layers,
        num_prefix_tokens=_prefix(embeddings),
        attentions=attentions,
        embedding=convolution_embedding(convolution, _only_size(backbone), embeddings),
        row_choices=(slice(0, 1), slice(0, 2)) if hasattr(embeddings, "distillation_token") else (slice(0, 1),),
        layers=layers,
        has_classifier=False,
        visible=partial(_by_sdpa, attentions),
    )
    pooling = _pooling(backbone)
    if pooling is None:
        return parts
    return replace(parts, blocks=[pooling], attentions=_attentions([pooling]), pools_by_attention=True, unpooled=parts)


def _layers(backbone: Any) -> list[nn.Module]:
    holders = [backbone, *backbone.children()]
    found = (getattr(holder, name, None) for holder in holders for name in _LAYERS)
    return next((list(layers) for layers in found if isinstance(layers, nn.ModuleList)), [])


def _pooling(backbone: Any) -> nn.Module | None:
    """Return the attention of a pooling head, below which no gradient passes."""
    head = getattr(backbone, "head", None)
    attention = getattr(head, "attention", None)
    if isinstance(attention, nn.MultiheadAttention):
        return attention
    return head if isinstance(head, nn.Module) and hasattr(head, "cls_token") else None


def _attentions(blocks: list[nn.Module]) -> list[nn.Module]:
    def attends(module: nn.Module) -> bool:
        names = {name for name, _ in module.named_children()}
        return isinstance(module, nn.MultiheadAttention) or bool({"k_proj", "key"} & names)

    return [module for block in blocks for module in block.modules() if attends(module)]


def _prefix(embeddings: nn.Module) -> int:
    """Count the tokens before the patches by their parameters."""
    single = ("cls_token", "class_embedding", "distillation_token")
    count = sum(isinstance(getattr(embeddings, name, None), nn.Parameter) for name in single)
    registers = getattr(embeddings, "register_tokens", None)
    return count + (registers.shape[1] if isinstance(registers, nn.Parameter) else 0)


def _only_size(backbone: Any) -> Any:
    """Return the size that images must have, unless the model adapts its positions to them by itself."""
    asked = "interpolate_pos_encoding" in inspect.signature(backbone.embeddings.forward).parameters
    return backbone.config.image_size if asked else None


@contextmanager
def _by_sdpa(attentions: list[nn.Module]) -> Iterator[None]:
    """Run attention modules of another implementation, such as "eager", by `scaled_dot_product_attention`.

    Their configuration is shared with other threads, so a twin with a configuration of its own answers in this one.
    """
    with ExitStack() as stack:
        for module in attentions:
            config = getattr(module, "config", None)
            if config is not None and getattr(config, "_attn_implementation", "sdpa") != "sdpa":
                twin = copy.copy(module)
                vars(twin)["config"] = copy.copy(config)
                vars(vars(twin)["config"])["_attn_implementation_internal"] = "sdpa"
                stack.enter_context(answered(module, "forward", partial(type(module).forward, twin)))
        yield
