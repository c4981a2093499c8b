"""Small ViTs of other libraries, made of configurations, with well-spread random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
import torchvision
import transformers
from small_models import CLASSES, small_model, spread
from torch import Tensor, nn

SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "image_size": 32,
    "patch_size": 8,
}


@dataclass(frozen=True)
class Case:
    """A model, and how its output becomes what is explained: the logits, or `score` of it."""

    make: Callable[[], nn.Module]
    score: Callable[[Any], Tensor] | None = None

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return spread(self.make())

    def read(self, output: Any) -> Tensor:
        if self.score is not None:
            return self.score(output)
        return output if isinstance(output, Tensor) else output.logits


def hf(config: str, model: str, **changes: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        settings = getattr(transformers, config)(**{**SMALL, "num_labels": CLASSES, **changes})
        return getattr(transformers, model)(settings)

    return make


def hf_classifier(family: str, **changes: Any) -> Case:
    return Case(hf(f"{family}Config", f"{family}ForImageClassification", **changes))


def of_clip(name: str) -> Case:
    def make() -> nn.Module:
        settings = getattr(transformers, f"{name}Config")(vision_config=SMALL, num_labels=CLASSES)
        return getattr(transformers, f"{name}ForImageClassification")(settings)

    return Case(make)


def pooled(output: Any) -> Tensor:
    return output.pooler_output[:, :CLASSES]


def embedded(output: Any) -> Tensor:
    return output.image_embeds[:, :CLASSES]


def mean_and_class(output: Any) -> Tensor:
    tokens = output.last_hidden_state
    return (tokens[:, 0] + tokens[:, 1:].mean(1))[:, :CLASSES]


def visual(**changes: Any) -> Case:
    settings = {"image_size": 32, "patch_size": 8, "width": 48, "layers": 2, "heads": 3, "mlp_ratio": 2.0}
    return Case(lambda: open_clip.transformer.VisionTransformer(**settings, output_dim=CLASSES, **changes), tensor)


def tensor(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def timm_trunk() -> nn.Module:
    tower = open_clip.timm_model.TimmModel("vit_tiny_patch16_224", CLASSES, pool="", proj="linear")
    tower.trunk = small_model(num_classes=0)
    tower.head.proj = nn.Linear(48, CLASSES)
    return tower


def timm_wrapper() -> nn.Module:
    config = transformers.TimmWrapperConfig(
        architecture="vit_tiny_patch16_224",
        num_labels=CLASSES,
        model_args={"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3},
    )
    return transformers.TimmWrapperForImageClassification(config)


CASES: dict[str, Case] = {
    "torchvision vit": Case(lambda: torchvision.models.VisionTransformer(32, 8, 2, 3, 48, 96, num_classes=CLASSES)),
    "torchvision vit with representation": Case(
        lambda: torchvision.models.VisionTransformer(32, 8, 2, 3, 48, 96, num_classes=CLASSES, representation_size=20)
    ),
    "vit": hf_classifier("ViT"),
    "vit pooler": Case(hf("ViTConfig", "ViTModel"), pooled),
    "deit": hf_classifier("DeiT"),
    "deit distilled": Case(hf("DeiTConfig", "DeiTForImageClassificationWithTeacher")),
    "dinov2": hf_classifier("Dinov2", mlp_ratio=2),
    "dinov2 swiglu": hf_classifier("Dinov2", mlp_ratio=2, use_swiglu_ffn=True),
    "dinov2 registers": hf_classifier("Dinov2WithRegisters", mlp_ratio=2, num_register_tokens=3),
    "dinov2 class token": Case(hf("Dinov2Config", "Dinov2Model", mlp_ratio=2), pooled),
    "dinov3": Case(hf("DINOv3ViTConfig", "DINOv3ViTModel", num_register_tokens=3), pooled),
    "dinov3 gated mlp": Case(hf("DINOv3ViTConfig", "DINOv3ViTModel", use_gated_mlp=True), mean_and_class),
    "beit": hf_classifier("Beit"),
    "beit relative positions": hf_classifier("Beit", use_relative_position_bias=True),
    "beit shared positions": hf_classifier("Beit", use_shared_relative_position_bias=True),
    "beit class token": hf_classifier("Beit", use_relative_position_bias=True, use_mean_pooling=False),
    "data2vec": hf_classifier("Data2VecVision", use_relative_position_bias=True),
    "clip": Case(hf("CLIPVisionConfig", "CLIPVisionModel"), pooled),
    "clip projected": Case(hf("CLIPVisionConfig", "CLIPVisionModelWithProjection", projection_dim=16), embedded),
    "clip classifier": of_clip("CLIP"),
    "metaclip 2": of_clip("MetaClip2"),
    "siglip": Case(hf("SiglipVisionConfig", "SiglipVisionModel"), pooled),
    "siglip classifier": of_clip("Siglip"),
    "msn": hf_classifier("ViTMSN"),
    "i-jepa": hf_classifier("IJepa"),
    "aimv2": Case(hf("Aimv2VisionConfig", "Aimv2VisionModel"), pooled),
    "aimv2 tokens": Case(hf("Aimv2VisionConfig", "Aimv2VisionModel", use_head=False), mean_and_class),
    "timm wrapper": Case(timm_wrapper),
    "open_clip": visual(),
    "open_clip with a trunk of timm": Case(timm_trunk, tensor),
    "open_clip average": visual(pool_type="avg"),
    "open_clip layer scale": visual(ls_init_value=0.1, output_tokens=True),
    "open_clip custom blocks": visual(qk_norm=True, scale_heads=True),
    "open_clip coca": visual(attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=1),
}
