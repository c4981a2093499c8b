"""How families of ViTs come to be known, and what is imported for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_models import CLASSES, random_images, spread
from torch import Tensor, nn

import agcam
import agcam.explainers.families
from agcam import InputError, ModelError, explain, families, register_family
from agcam.explainers import family_registry
from agcam.explainers.patch_embedding import convolution_embedding
from agcam.explainers.vit_parts import ViTParts


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    families()
    monkeypatch.setattr(family_registry, "_REGISTERED", dict(family_registry._REGISTERED))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.MultiheadAttention(48, 3, batch_first=True)
        self.ln_1 = nn.LayerNorm(48)
        self.mlp = nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 96), nn.GELU(), nn.Linear(96, 48))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.ln_1(tokens)
        tokens = tokens + self.mix(x, x, x)[0]
        return tokens + self.mlp(tokens)


class OwnViT(nn.Module):
    """A ViT as people write it, without a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 48, 8, 8)
        self.position = nn.Parameter(torch.zeros(1, 16, 48))
        self.stack = nn.ModuleList([Layer(), Layer()])
        self.out = nn.Linear(48, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.cut(images).flatten(2).mT + self.position
        for layer in self.stack:
            tokens = layer(tokens)
        return self.out(tokens.mean(1))


def own_vit(module: nn.Module) -> ViTParts | None:
    """Explain OwnViT.

    Nothing more.
    """
    if not isinstance(module, OwnViT):
        return None
    layers = list(module.stack)
    return ViTParts(module, layers, 0, [layer.mix for layer in layers], convolution_embedding(module.cut, 32))


def test_every_file_of_our_own_families_registers_one() -> None:
    (folder,) = agcam.explainers.families.__path__
    files = {path.stem for path in Path(folder).glob("*.py")} - {"__init__"}
    assert [family.name for family in families()] == sorted(files)
    assert all(family.library and family.help for family in families())


def test_a_registered_family_is_explained_by_every_method_that_fits() -> None:
    model, images = spread(OwnViT()), random_images()
    with pytest.raises(ModelError, match=r"OwnViT cannot be explained.*found cut, stack, out.*agcam.families\(\)"):
        explain(model, images)
    assert register_family(own_vit) is own_vit
    assert (families()[0].name, families()[0].help) == ("own_vit", "Explain OwnViT.")
    logits = model(images).detach()
    for method in ("agcam", "raw_attention", "gradcam", "input_x_gradient"):
        found = explain(model, images, "all", method=method)
        assert found.heatmaps.shape == (2, CLASSES, 4, 4)
        torch.testing.assert_close(found.logits, logits)
    with pytest.raises(ModelError, match="follows one class token through all blocks, OwnViT has none"):
        explain(model, images, method="rollout")


def test_wrong_parts_give_an_error() -> None:
    def half(module: nn.Module) -> ViTParts | None:
        parts = own_vit(module)
        return parts and ViTParts(module, parts.blocks, 1, parts.attentions, parts.embedding)

    register_family(half)
    with pytest.raises(ModelError, match="16 columns, not 1 and a patch grid of 4×4"):
        explain(spread(OwnViT()), random_images())


def test_two_families_of_one_name_are_refused() -> None:
    def timm(module: nn.Module) -> None:
        return None

    with pytest.raises(InputError, match=r"families\.timm:timm and .* are both called 'timm'; rename one"):
        register_family(timm)
    with pytest.raises(InputError, match="a family cannot be called 'my vit'"):
        register_family(name="my vit")(own_vit)
    with pytest.raises(InputError, match="must be a function from a module to its parts, found 3"):
        register_family(3)


def test_other_libraries_are_imported_for_their_own_models_alone() -> None:
    code = """
import sys, timm, torch, agcam
model = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=32).eval()
agcam.explain(model, torch.zeros(1, 3, 32, 32))
agcam.families()
print(sorted({"transformers", "open_clip"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
