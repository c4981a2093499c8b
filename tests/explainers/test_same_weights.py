"""One ViT in the words of four libraries: with the same weights every method gives the same map."""

from __future__ import annotations

from collections.abc import Callable

import open_clip
import pytest
import torch
import torchvision
import transformers
from library_models import SMALL
from small_models import CLASSES, random_images, small_model
from torch import Tensor, nn

from agcam import explain, methods
from agcam.errors import ModelError

OPTIONS = {
    "integrated_gradients": {"steps": 2},
    "agcam full": {"gradient": "full"},
    "legrad class": {"readout": "class"},
}
COMPARED = [name for name in methods() if name not in ("lrp", "random")] + ["agcam full", "legrad class"]


def weights_of_timm() -> tuple[nn.Module, dict[str, Tensor]]:
    model = small_model()
    with torch.no_grad():
        model.head.bias.zero_()  # open_clip's projection has none
    return model, dict(model.state_dict())


def to_torchvision(weights: dict[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    model = torchvision.models.VisionTransformer(32, 8, 2, 3, 48, 192, num_classes=CLASSES)
    names = {
        "blocks.": "encoder.layers.encoder_layer_",
        "norm1": "ln_1",
        "norm2": "ln_2",
        "attn.qkv.": "self_attention.in_proj_",
        "attn.proj": "self_attention.out_proj",
        "mlp.fc1": "mlp.0",
        "mlp.fc2": "mlp.3",
        "patch_embed.proj": "conv_proj",
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        "head.": "heads.head.",
    }
    return model, renamed(weights, names, {"norm.": "encoder.ln."})


def to_transformers(weights: dict[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    config = transformers.ViTConfig(**{**SMALL, "intermediate_size": 192}, num_labels=CLASSES)
    names = {
        "blocks.": "vit.layers.",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.o_proj",
        "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
        "cls_token": "vit.embeddings.cls_token",
        "pos_embed": "vit.embeddings.position_embeddings",
        "head.": "classifier.",
    }
    found = {}
    for name, tensor in renamed(weights, names, {"norm.": "vit.layernorm."}).items():
        if "attn.qkv" in name:
            for part, each in zip("qkv", tensor.chunk(3), strict=True):
                found[name.replace("attn.qkv", f"attention.{part}_proj")] = each
        else:
            found[name] = tensor
    return transformers.ViTForImageClassification(config), found


def to_open_clip(weights: dict[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    model = open_clip.transformer.VisionTransformer(32, 8, 48, 2, 3, 4.0, output_dim=CLASSES, no_ln_pre=True)
    names = {
        "blocks.": "transformer.resblocks.",
        "norm1": "ln_1",
        "norm2": "ln_2",
        "attn.qkv.": "attn.in_proj_",
        "attn.proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "patch_embed.proj": "conv1",
    }
    found = renamed(weights, names, {"norm.": "ln_post."})
    found["class_embedding"] = found.pop("cls_token").flatten()
    found["positional_embedding"] = found.pop("pos_embed").squeeze(0)
    found["proj"] = found.pop("head.weight").T
    del found["head.bias"]
    bias = found.pop("conv1.bias")  # which open_clip's patches do not have: its positions do as well
    found["positional_embedding"][1:] += bias
    return model, found


def renamed(weights: dict[str, Tensor], names: dict[str, str], first: dict[str, str]) -> dict[str, Tensor]:
    found = {}
    for name, tensor in weights.items():
        for old, new in first.items():
            name = name.replace(old, new) if name.startswith(old) else name
        for old, new in names.items():
            name = name.replace(old, new)
        found[name] = tensor.double()
    return found


LIBRARIES: dict[str, Callable[[dict[str, Tensor]], tuple[nn.Module, dict[str, Tensor]]]] = {
    "torchvision": to_torchvision,
    "transformers": to_transformers,
    "open_clip": to_open_clip,
}


def twins(library: str) -> tuple[nn.Module, nn.Module]:
    ours, weights = weights_of_timm()
    theirs, renamed_weights = LIBRARIES[library](weights)
    theirs = theirs.double().eval()
    theirs.load_state_dict(renamed_weights, strict=True)
    for module in [*theirs.modules(), *ours.modules()]:
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    return ours.double(), theirs


def scores(output: Tensor) -> Tensor:
    return output


@pytest.mark.parametrize("named", COMPARED)
@pytest.mark.parametrize("library", LIBRARIES)
def test_every_method_gives_the_map_of_timms_vit(library: str, named: str) -> None:
    ours, theirs = twins(library)
    images, method = random_images().double(), named.split(" ")[0]
    score = scores if library == "open_clip" else None  # its tower has no classes
    found = explain(theirs, images, [[1, 3], [4, 0]], method=method, score=score, **OPTIONS.get(named, {}))
    expected = explain(ours, images, [[1, 3], [4, 0]], method=method, score=score, **OPTIONS.get(named, {}))
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.heatmaps, expected.heatmaps, rtol=1e-5, atol=1e-7)
    assert expected.heatmaps.std() > 0


@pytest.mark.parametrize("library", LIBRARIES)
def test_lrp_says_for_which_models_it_has_rules(library: str) -> None:
    _, theirs = twins(library)
    with pytest.raises(ModelError, match=r"lrp has rules for timm's plain VisionTransformer .* is a "):
        explain(theirs, random_images().double(), 0, method="lrp", score=scores if library == "open_clip" else None)
