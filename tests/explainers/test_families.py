"""Every family of timm ViTs: the maps are those of the plain definition, or the error says why there are none."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from eager import eager_agcam
from small_models import CLASSES, GRID, error, random_images, small_model
from timm.layers import Attention
from torch import Tensor, nn

from agcam import explain
from agcam.errors import ModelError


class GatedAttention(Attention):
    """timm's attention with its sigmoid gate, which no model of timm 1.0.31 switches on by name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, gated=True, **kwargs)


FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit_tiny_patch16_224", {}),
    "qk norm": ("vit_tiny_patch16_224", {"qk_norm": True}),
    "layer scale": ("vit_tiny_patch16_224", {"init_values": 0.1}),
    "pre-norm": ("vit_tiny_patch16_224", {"pre_norm": True}),
    "no qkv bias": ("vit_tiny_patch16_224", {"qkv_bias": False}),
    "scale norms": ("vit_tiny_patch16_224", {"scale_attn_norm": True, "scale_mlp_norm": True}),
    "post-norm blocks": ("vit_tiny_patch16_224", {"block_fn": timm.models.vision_transformer.ResPostBlock}),
    "gated attention": ("vit_tiny_patch16_224", {"attn_layer": GatedAttention}),
    "grouped queries": (
        "vit_small_patch16_dinov3",
        {"num_heads": 4, "num_kv_heads": 2, "qkv_fused": False, "attn_type": "rope"},
    ),
    "differential attention": ("vit_dlittle_patch16_reg1_gap_256", {}),
    "deit": ("deit_tiny_patch16_224", {}),
    "deit distilled": ("deit_tiny_distilled_patch16_224", {}),
    "deit3": ("deit3_small_patch16_224", {}),
    "clip": ("vit_base_patch16_clip_224", {}),
    "dinov2 registers": ("vit_small_patch14_reg4_dinov2", {}),
    "dinov3": ("vit_small_patch16_dinov3", {}),
    "eva02": ("eva02_tiny_patch14_224", {}),
    "eva02 clip": ("eva02_base_patch16_clip_224", {}),
    "beit": ("beit_base_patch16_224", {}),
    "beitv2": ("beitv2_base_patch16_224", {}),
    "beit3": ("beit3_base_patch16_224", {}),
    "rope": ("vit_small_patch16_rope_224", {}),
    "rope mixed": ("vit_small_patch16_rope_mixed_224", {}),
    "rope registers gap": ("vit_betwixt_patch16_rope_reg4_gap_256", {}),
    "relpos": ("vit_relpos_small_patch16_224", {}),
    "relpos shared": ("vit_srelpos_small_patch16_224", {}),
    "relpos class token": ("vit_relpos_base_patch16_cls_224", {}),
    "relpos post-norm": ("vit_relpos_base_patch16_rpn_224", {}),
    "flexivit": ("flexivit_small", {}),
    "parallel 18x2": ("vit_small_patch16_18x2_224", {}),
    "parallel pwee": ("vit_pwee_patch16_reg1_gap_256", {}),
    "parallel differential": ("vit_dpwee_patch16_reg1_gap_256", {}),
    "xp": ("vit_base_patch16_xp_224", {}),
    "gap": ("vit_base_patch16_gap_224", {}),
    "registers gap": ("vit_base_patch16_reg4_gap_256", {}),
    "max pooling": ("vit_tiny_patch16_224", {"global_pool": "max"}),
    "average over prefix": ("vit_tiny_patch16_224", {"global_pool": "avg", "pool_include_prefix": True}),
    "aimv2": ("aimv2_large_patch14_224", {}),
    "siglip": ("vit_base_patch16_siglip_224", {}),
    "siglip gap": ("vit_base_patch16_siglip_gap_224", {}),
    "map pooling with class token": ("vit_pe_core_tiny_patch16_384", {}),
    "prr pooling": ("vit_tiny_patch16_224", {"global_pool": "prr"}),
    "prr pooling, average": ("vit_tiny_patch16_224", {"global_pool": "prr", "class_token": False}),
    "cait": ("cait_xxs24_224", {}),
    "naflex gap": ("naflexvit_base_patch16_gap", {}),
    "naflex map": ("naflexvit_base_patch16_map", {}),
    "naflex from vit": ("vit_small_patch16_224", {"use_naflex": True}),
}

SIZES: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "vit": ("vit_tiny_patch16_224", {"img_size": (24, 40)}, 24, 40),
    "beit": ("beit_base_patch16_224", {"img_size": (24, 40)}, 24, 40),
    "relpos": ("vit_relpos_small_patch16_224", {"img_size": (24, 40)}, 24, 40),
    "eva02": ("eva02_tiny_patch14_224", {"img_size": (24, 40)}, 24, 40),
    "cait": ("cait_xxs24_224", {"img_size": (24, 40)}, 24, 40),
    "siglip": ("vit_base_patch16_siglip_224", {"img_size": (24, 40)}, 24, 40),
    "patches that leave a margin": ("vit_tiny_patch16_224", {"img_size": (26, 44)}, 26, 44),
    "vit dynamic": ("vit_tiny_patch16_224", {"dynamic_img_size": True}, 24, 40),
    "vit dynamic, padded": ("vit_tiny_patch16_224", {"dynamic_img_size": True, "dynamic_img_pad": True}, 19, 36),
    "deit distilled dynamic": ("deit_tiny_distilled_patch16_224", {"dynamic_img_size": True}, 24, 40),
    "eva02 dynamic": ("eva02_tiny_patch14_224", {"dynamic_img_size": True}, 24, 40),
    "dinov3 dynamic": ("vit_small_patch16_dinov3", {"dynamic_img_size": True}, 24, 40),
    "rope mixed dynamic": ("vit_small_patch16_rope_mixed_224", {"dynamic_img_size": True}, 24, 40),
    "naflex": ("naflexvit_base_patch16_gap", {}, 24, 40),
}

REFUSED = {
    "swin": ("swin_tiny_patch4_window7_224", {"embed_dim": 12, "depths": (1, 1)}, "SwinTransformer.*no blocks.*layers"),
    "convnext": ("test_convnext", {}, "ConvNeXt.*no blocks.*stages"),
    "resnet": ("test_resnet", {}, "ResNet.*no blocks.*layer1"),
    "efficientnet": ("test_efficientnet", {}, "EfficientNet.*no norm"),
    "hybrid": ("vit_tiny_r_s16_p8_224", {"depth": 1}, "VisionTransformer.*hybrid.*HybridEmbed"),
    "maxvit": ("test_coatnet", {}, "MaxxVit.*no blocks"),
    "mlp mixer": ("mixer_s32_224", {}, "MlpMixer.*no patch_embed"),
    "convit": ("convit_tiny", {"depth": 2, "local_up_to_layer": 1}, "no scaled_dot_product_attention"),
    "xcit": ("xcit_nano_12_p8_224", {"depth": 1}, "ConvPatchEmbed"),
    "features only": ("vit_tiny_patch16_224", {"depth": 1, "global_pool": "", "num_classes": 0}, "no classifier"),
    "cait average": ("cait_xxs24_224", {"depth": 1, "global_pool": "avg"}, "class-attention blocks.*'avg'"),
}


def assert_explained(model: nn.Module, images: Tensor, grid: tuple[int, int]) -> None:
    explanation = explain(model, images, "all")
    expected = eager_agcam(model, images, list(range(CLASSES)), grid)
    torch.testing.assert_close(explanation.logits, model(images).detach(), rtol=1e-5, atol=1e-5)
    # classes and images apart, so that a mixed-up axis shows
    assert expected.amax((2, 3)).min() > 1e-3
    assert expected.flatten(0, 1).std(0).min() > 1e-3
    assert explanation.heatmaps.dtype == torch.float32
    assert error(explanation.heatmaps, expected) < 1e-5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("family", FAMILIES)
def test_maps_equal_the_definition(family: str) -> None:
    name, changes = FAMILIES[family]
    model, images = small_model(name, **changes), random_images()
    assert_explained(model, images, GRID)
    # nothing made in inference mode may stay in the model: autograd would refuse it
    model.train()(images).sum().backward()


@pytest.mark.parametrize("case", SIZES)
def test_maps_equal_the_definition_where_images_are_not_square(case: str) -> None:
    name, changes, height, width = SIZES[case]
    assert_explained(small_model(name, **changes), random_images(height, width), (3, 5))


@pytest.mark.parametrize("case", REFUSED)
def test_other_architectures_are_refused_by_name(case: str) -> None:
    name, changes, found = REFUSED[case]
    model = timm.create_model(name, **changes)
    size = model.pretrained_cfg["input_size"][-1]
    with pytest.raises(ModelError, match=f"(?s){name}.*{found}"):
        explain(model, torch.zeros(1, 3, size, size))


class TokenMixing(nn.Module):
    """A block that mixes tokens outside attention, which the class token's own row cannot show."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, tokens: Tensor) -> Tensor:
        return self.block(tokens) + 0.1 * tokens.mean(1, keepdim=True)


class DropLastToken(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, :-1]


def test_a_model_that_mixes_tokens_elsewhere_is_refused() -> None:
    model = small_model()
    model.blocks[0] = TokenMixing(model.blocks[0])
    with pytest.raises(ModelError, match="vit_tiny_patch16_224 cannot be explained: its logits differ by"):
        explain(model, random_images())


def test_a_model_that_drops_tokens_is_refused() -> None:
    model = small_model()
    model.norm_pre = DropLastToken()
    with pytest.raises(ModelError, match="16 columns, not 1 and a patch grid of 4×4"):
        explain(model, random_images())


def test_weights_that_are_not_numbers_are_named() -> None:
    model = small_model()
    with torch.no_grad():
        model.head.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="logits are not finite"):
        explain(model, random_images())
