"""The attention of chosen layers and heads, against the model's own query and key."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import agcam
from agcam.errors import InputError
from explainers.small_models import random_images, small_model


def attention(model: Any, images: Tensor, block: int) -> Tensor:
    """(B, heads, N, N) by the block's own qkv, from what enters it."""
    entered: list[Tensor] = []
    module = model.blocks[block].attn
    handle = module.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    with torch.no_grad():
        model(images)
        handle.remove()
        batch, tokens, _ = entered[0].shape
        qkv = module.qkv(entered[0]).reshape(batch, tokens, 3, module.num_heads, -1).permute(2, 0, 3, 1, 4)
        return (qkv[0] @ qkv[1].transpose(-2, -1) * module.scale).softmax(-1)


def on_grid(rows: Tensor) -> Tensor:
    return rows[..., 1:].reshape(len(rows), 4, 4)


@pytest.mark.parametrize("head", [0, 1, 2, -1])
@pytest.mark.parametrize("layer", [0, 1, -1])
def test_one_head_of_a_layer_is_the_softmax_of_its_scores(layer: int, head: int) -> None:
    model, images = small_model(), random_images()
    found = agcam.explain(model, images, method="raw_attention", layers=layer, heads=head).heatmaps[:, 0]
    torch.testing.assert_close(found, on_grid(attention(model, images, layer)[:, head, 0]), rtol=1e-4, atol=1e-6)


def test_several_are_summed_and_all_are_the_default() -> None:
    model, images = small_model(), random_images()
    each = [[attention(model, images, layer)[:, head, 0] for head in range(3)] for layer in range(2)]
    found = agcam.explain(model, images, method="raw_attention", layers=slice(None), heads=[0, 2]).heatmaps[:, 0]
    expected = on_grid(each[0][0] + each[0][2] + each[1][0] + each[1][2])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    every = agcam.explain(model, images, method="raw_attention", layers=[0, 1], heads=[0, 1, 2]).heatmaps
    assert torch.equal(every, agcam.explain(model, images, method="raw_attention").heatmaps)


def test_the_parts_of_agcam_add_up_to_the_whole() -> None:
    model, images = small_model(), random_images()
    parts = [agcam.explain(model, images, layers=layer, heads=head).heatmaps for layer in range(2) for head in range(3)]
    torch.testing.assert_close(sum(parts), agcam.explain(model, images).heatmaps, rtol=1e-4, atol=1e-7)
    assert any(not torch.equal(parts[0], part) for part in parts[1:])


@pytest.mark.parametrize("method", ["agcam", "raw_attention"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, r"heads=3 is out of range: there are 3 heads of vit_tiny"),
        ({"layers": [0, 2]}, r"layers=\[0, 2\] is out of range"),
        ({"heads": []}, "chooses none of the 3 heads"),
        ({"heads": [1, -2]}, "names one twice"),
        ({"layers": "last"}, "layers must be a number, several, a slice or None, found 'last'"),
        ({"heads": True}, "found True"),
    ],
)
def test_what_is_not_there_is_named(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        agcam.explain(small_model(), random_images(), method=method, **options)
