"""The paper's ablations as options of `explain`, each against the plain definition.

In float64: a wrong row, a missing head or a detached path is no rounding error, and doubles leave no doubt.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from eager import eager_agcam
from small_models import CLASSES, GRID, error, random_images, small_model
from torch import nn

from agcam import explain
from agcam.errors import InputError

OPTIONS: list[dict[str, Any]] = [
    {"feature_map": "softmax"},
    {"feature_map": "none"},
    {"gradient": "full"},
    {"gradient": "full", "feature_map": "softmax"},
    {"layers": slice(-1, None)},
    {"layers": slice(0, 3, 2), "gradient": "full"},
    {"head_reduction": "mean"},
    {"head_reduction": "max"},
    {"layer_reduction": "mean"},
    {"layer_reduction": "max", "head_reduction": "max"},
]

# name, query rows that the head reads, attention calls a block, blocks whose attention is explained
MODELS = {
    "class token": ("vit_tiny_patch16_224", slice(0, 1), 1, slice(None)),
    "two tokens": ("deit_tiny_distilled_patch16_224", slice(0, 2), 1, slice(None)),
    "all tokens": ("vit_base_patch16_gap_224", slice(None), 1, slice(None)),
    "relative position bias": ("beit_base_patch16_224", slice(None), 1, slice(None)),
    "two attentions a block": ("vit_small_patch16_18x2_224", slice(0, 1), 2, slice(None)),
    "class attention": ("cait_xxs24_224", slice(0, 1), 1, slice(None)),
    "attention pooling": ("vit_base_patch16_siglip_224", slice(0, 1), 1, slice(3, None)),
}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", MODELS)
def test_options_equal_the_definition(kind: str, options: dict[str, Any]) -> None:
    name, rows, calls, explained = MODELS[kind]
    model, images = small_model(name, depth=3).double(), random_images().double()
    count = 1 if kind == "attention pooling" else 2 if kind == "class attention" else 3
    eager = dict(options)
    chosen = range(count)[eager.pop("layers", slice(None))]
    start = explained.start or 0
    eager["layers"] = slice(chosen.start + start, chosen.stop + start, chosen.step)
    if eager.pop("gradient", "skip") == "full":
        eager["full_gradient_rows"] = rows
    expected = eager_agcam(model, images, list(range(CLASSES)), GRID, calls_per_layer=calls, **eager)
    found = explain(model, images, "all", **options).heatmaps
    assert error(found.double(), expected) < 1e-6  # heatmaps are float32


def test_defaults_are_the_papers() -> None:
    model, images = small_model(), random_images()
    spelled_out = explain(
        model,
        images,
        "all",
        feature_map="sigmoid",
        gradient="skip",
        layers=None,
        head_reduction="sum",
        layer_reduction="sum",
    )
    assert torch.equal(spelled_out.heatmaps, explain(model, images, "all").heatmaps)


def test_full_gradient_needs_no_trainable_weights_and_leaves_none_a_gradient() -> None:
    model, images = small_model(), random_images()
    expected = explain(model, images, 2, gradient="full").heatmaps
    assert all(parameter.grad is None for parameter in model.parameters())
    model.requires_grad_(False)
    with torch.inference_mode():
        found = explain(model, images, 2, gradient="full").heatmaps
    torch.testing.assert_close(found, expected)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_full_gradient_in_half_precision_is_near_that_in_single() -> None:
    model, images = small_model().bfloat16(), random_images().bfloat16()
    expected = explain(model.float(), images.float(), "all", gradient="full").heatmaps
    assert error(explain(model.bfloat16(), images, "all", gradient="full").heatmaps, expected) < 0.05


def test_map_pooling_leaves_nothing_for_the_full_gradient_to_add() -> None:
    model, images = small_model("vit_base_patch16_siglip_224"), random_images()
    full = explain(model, images, "all", gradient="full").heatmaps
    assert error(full, explain(model, images, "all").heatmaps) < 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature_map": "tanh"}, "feature_map must be one of sigmoid, softmax, none, found 'tanh'"),
        ({"gradient": "half"}, "gradient must be one of skip, full, found 'half'"),
        ({"head_reduction": "median"}, "head_reduction must be one of sum, mean, max, found 'median'"),
        ({"layer_reduction": None}, "layer_reduction must be one of sum, mean, max, found None"),
        ({"layers": 3}, "layers=3 is out of range"),
        ({"layers": slice(7, 9)}, "none of the 2 blocks of vit_tiny_patch16_224"),
        ({"discard_ratio": 0.5}, "agcam has no option 'discard_ratio'; known are feature_map, gradient, layers"),
        ({"method": "center", "layers": slice(1)}, "center has no option 'layers'; known are none"),
    ],
    ids=str,
)
def test_unknown_options_and_values_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        explain(small_model(), random_images(), **options)


def test_blocks_without_attention_of_their_own_are_no_layers() -> None:
    """Layers are counted in blocks: one of them without attention would shift the others."""
    model = small_model(depth=3)
    model.blocks[1].attn = nn.Identity()
    model.blocks[1].forward = lambda tokens: tokens + model.blocks[1].mlp(tokens)
    with pytest.raises(Exception, match="3 blocks made 2 attention calls"):
        explain(model, random_images(), layers=slice(1, None))
