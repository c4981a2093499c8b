"""Transformer attribution against a literal one, one image and one class at a time, and the authors' figures."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from plain import golden_model
from small_models import GRID, error, random_images, small_model
from torch import Tensor, nn

from agcam import explain
from agcam.errors import ModelError


def divide(a: Tensor, b: Tensor) -> Tensor:
    return a / (b + 1e-9 + (b == -1e-9) * 1e-9) * (b != 0)


def down_linear(layer: nn.Linear, x: Tensor, relevance: Tensor) -> Tensor:
    positive, negative = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    more, less = x.clamp(min=0), x.clamp(max=0)
    share = divide(relevance, F.linear(more, positive) + F.linear(less, negative))
    return more * (share @ positive) + less * (share @ negative)


def down_sum(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    share = divide(relevance, a + b)
    of_a, of_b = a * share, b * share
    sum_a, sum_b = of_a.sum(), of_b.sum()
    to_a = divide(sum_a.abs(), sum_a.abs() + sum_b.abs()) * relevance.sum()
    to_b = divide(sum_b.abs(), sum_a.abs() + sum_b.abs()) * relevance.sum()
    return of_a * divide(to_a, of_a.sum()), of_b * divide(to_b, of_b.sum())


def split(tokens: Tensor, heads: int) -> Tensor:
    return tokens.reshape(1, tokens.shape[1], heads, -1).transpose(1, 2)


def join(heads: Tensor) -> Tensor:
    return heads.transpose(1, 2).flatten(2)


def literal(model: nn.Module, image: Tensor, chosen: int, prefix: int, grid: tuple[int, int]) -> Tensor:
    tokens = model.norm_pre(model._pos_embed(model.patch_embed(image)))
    kept = []
    for block in model.blocks:
        heads = block.attn.num_heads
        normed = block.norm1(tokens)
        q, k, v = (split(t, heads) for t in block.attn.qkv(normed).chunk(3, -1))
        q, k = block.attn.q_norm(q), block.attn.k_norm(k)
        scores = q @ k.transpose(-2, -1)
        matrix = (scores * block.attn.scale).softmax(-1)
        out = matrix @ v
        flat = join(out)
        attended = block.ls1(block.attn.proj(flat))
        middle = tokens + attended
        normed2 = block.norm2(middle)
        hidden = block.mlp.act(block.mlp.fc1(normed2))
        enriched = block.ls2(block.mlp.fc2(hidden))
        step = (block, tokens, normed, q, k, v, scores, matrix, out, flat, attended, middle, normed2, hidden, enriched)
        kept.append(step)
        tokens = middle + enriched
    pooled = model.fc_norm(model.norm(tokens)[:, 0])
    logits = model.head(pooled)
    gradients = torch.autograd.grad(logits[0, chosen], [k[7] for k in kept])
    maps = []
    with torch.no_grad():
        relevance = torch.zeros_like(tokens)
        relevance[:, 0] = down_linear(model.head, pooled, F.one_hot(torch.tensor([chosen]), logits.shape[1]).to(pooled))
        for step, gradient in zip(reversed(kept), reversed(gradients), strict=True):
            block, tokens, normed, q, k, v, scores, matrix, out, flat, attended, middle, normed2, hidden, enriched = (
                step
            )
            along, through = down_sum(middle, enriched, relevance)
            through = down_linear(block.mlp.fc2, hidden, through)
            relevance = along + down_linear(block.mlp.fc1, normed2, through)
            along, through = down_sum(tokens, attended, relevance)
            share = divide(split(down_linear(block.attn.proj, flat, through), q.shape[1]), out)
            of_matrix, of_v = matrix * (share @ v.transpose(-2, -1)) / 2, v * (matrix.transpose(-2, -1) @ share) / 2
            maps.append((gradient * of_matrix).clamp(min=0).mean(1)[0])
            share = divide(of_matrix, scores)
            of_q, of_k = q * (share @ k) / 2, k * (share.transpose(-2, -1) @ q) / 2
            relevance = along + down_linear(block.attn.qkv, normed, torch.cat([join(of_q), join(of_k), join(of_v)], -1))
        rolled = torch.eye(maps[0].shape[-1], dtype=maps[0].dtype)
        for matrix in reversed(maps):
            rolled = (matrix + torch.eye(len(matrix), dtype=matrix.dtype)) @ rolled
    return rolled[0, prefix:].reshape(grid)


MODELS = {
    "vit": ("vit_tiny_patch16_224", 1, {}),
    "layer scale, registers": ("vit_small_patch14_reg4_dinov2", 5, {}),
    "norms before the blocks and of queries": ("vit_tiny_patch16_224", 1, {"qk_norm": True, "pre_norm": True}),
    "no query bias": ("vit_tiny_patch16_224", 1, {"qkv_bias": False}),
}


@pytest.mark.parametrize("kind", MODELS)
def test_lrp_is_its_rules(kind: str) -> None:
    name, prefix, changes = MODELS[kind]
    model, images = small_model(name, depth=3, **changes).double(), random_images().double()
    targets = torch.tensor([[0, 3], [4, 4]])
    found = explain(model, images, targets, method="lrp").heatmaps
    expected = [
        torch.stack([literal(model, image[None], c, prefix, GRID) for c in classes])
        for image, classes in zip(images, targets.tolist(), strict=True)
    ]
    assert error(found.double(), torch.stack(expected)) < 1e-6


def perturbed(model: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1 + 1e-7 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


@pytest.mark.parametrize("name", ["vit_64_p8", "vit_96_p16"])
def test_maps_equal_the_authors_as_far_as_float32_tells(name: str) -> None:
    """The authors' figures were computed in float32, whose rounding some of the maps amplify ten-thousandfold.

    Each map may differ by what rounding the weights to float32 does to it, or by 1e-4 of its maximum.
    """
    model, golden = golden_model(name, torch.float64)
    images, expected = golden["input"].double(), golden["lrp_all"]
    scale = expected.amax((2, 3))
    found = explain(model, images, "all", method="lrp").heatmaps
    others = [
        explain(perturbed(golden_model(name, torch.float64)[0], seed), images, "all", method="lrp").heatmaps
        for seed in range(4)
    ]
    rounding = torch.stack([(other - found).abs().amax((2, 3)) / scale for other in others]).amax(0)
    difference = (found - expected).abs().amax((2, 3)) / scale
    assert (difference <= 10 * rounding + 1e-5).all()
    assert (difference < 1e-4).sum() >= 2


def test_each_image_has_the_map_that_it_has_alone() -> None:
    model, images = small_model().double(), random_images(batch=3).double()
    together = explain(model, images, "all", method="lrp").heatmaps
    alone = [explain(model, image[None], "all", method="lrp").heatmaps for image in images]
    assert error(together, torch.cat(alone)) < 1e-5


def test_lrp_runs_one_forward() -> None:
    model, calls = small_model(), []
    model.patch_embed.register_forward_pre_hook(lambda *_: calls.append(1))
    explain(model, random_images(), "all", method="lrp")
    assert len(calls) == 1


def test_gradient_checkpointing_changes_nothing() -> None:
    model, images = small_model(), random_images()
    expected = explain(model, images, 1, method="lrp").heatmaps
    model.set_grad_checkpointing()
    assert torch.equal(explain(model, images, 1, method="lrp").heatmaps, expected)
    assert model.grad_checkpointing


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_base_patch16_gap_224", "pools over its tokens"),
        ("beit_base_patch16_224", "pools over its tokens"),
        ("deit_tiny_distilled_patch16_224", "more than one token"),
        ("vit_small_patch16_18x2_224", "has a ParallelThingsBlock with"),
    ],
)
def test_models_without_rules(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        explain(small_model(name), random_images(), method="lrp")


def test_adapters_are_named() -> None:
    model = small_model()
    model.blocks[1].attn.qkv = nn.Sequential(model.blocks[1].attn.qkv)
    with pytest.raises(ModelError, match="has a Sequential as qkv of block 1; merge adapters first"):
        explain(model, random_images(), method="lrp")
