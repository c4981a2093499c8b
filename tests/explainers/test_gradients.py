"""Generic attention, Grad-CAM, LeGrad and Captum's methods, each against a plain one, a class at a time."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from eager import Attention
from plain import matrices_and_gradients, on_grid
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from small_models import CLASSES, GRID, error, random_images, small_model
from torch import Tensor, nn

from agcam import explain
from agcam.errors import InputError, ModelError

NAMES = {"vit_tiny_patch16_224": 1, "vit_small_patch14_reg4_dinov2": 5}


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, int]:
    return small_model(request.param, depth=3).double(), random_images().double(), NAMES[request.param]


def found(model: nn.Module, images: Tensor, method: str, **options: Any) -> Tensor:
    return explain(model, images, "all", method=method, **options).heatmaps.double()


def test_generic_attention(case: tuple[nn.Module, Tensor, int]) -> None:
    model, images, prefix = case
    maps = []
    for chosen in range(CLASSES):
        relevance = torch.eye(16 + prefix).double().expand(2, -1, -1)
        for matrix, gradient in zip(*matrices_and_gradients(model, images, chosen), strict=True):
            relevance = relevance + (matrix * gradient).clamp(min=0).mean(1) @ relevance
        maps.append(on_grid(relevance[:, 0], prefix, GRID))
    assert error(found(model, images, "generic_attention"), torch.cat(maps, 1)) < 1e-6


def test_attention_gradcam(case: tuple[nn.Module, Tensor, int]) -> None:
    model, images, prefix = case
    maps = []
    for chosen in range(CLASSES):
        matrices, gradients = matrices_and_gradients(model, images, chosen)
        rows, by_rows = matrices[-1][:, :, 0, prefix:], gradients[-1][:, :, 0, prefix:]
        maps.append(on_grid((by_rows.mean(2, keepdim=True) * rows).mean(1).clamp(min=0), 0, GRID))
    assert (found(model, images, "attention_gradcam") - torch.cat(maps, 1)).abs().max() < 1e-6 * torch.cat(maps).max()


@pytest.mark.parametrize("block", [-1, 0, 1])
def test_gradcam_as_pytorch_grad_cam_does_it(case: tuple[nn.Module, Tensor, int], block: int) -> None:
    """With a hook on norm1: weights are the gradient's mean over the patches, then a weighted sum over channels."""
    model, images, prefix = case
    kept: list[Tensor] = []
    handle = model.blocks[block].norm1.register_forward_hook(lambda module, args, output: kept.append(output))
    logits = model(images)
    handle.remove()
    maps = []
    for chosen in range(CLASSES):
        (gradient,) = torch.autograd.grad(logits[:, chosen].sum(), kept, retain_graph=True)
        activations, gradient = (t[:, prefix:].transpose(1, 2).reshape(2, -1, *GRID) for t in (kept[0], gradient))
        cam = (gradient.mean((2, 3), keepdim=True) * activations).sum(1, keepdim=True)
        maps.append(cam.clamp(min=0).detach())
    expected = torch.cat(maps, 1)
    assert (found(model, images, "gradcam", block=block) - expected).abs().max() < 1e-6 * expected.max()


@pytest.mark.parametrize("chosen", range(CLASSES))
def test_gradcam_equals_the_package_pytorch_grad_cam(case: tuple[nn.Module, Tensor, int], chosen: int) -> None:
    model, images, prefix = case
    model, images = model.float(), images.float()

    def to_grid(tokens: Tensor) -> Tensor:
        return tokens[:, prefix:].transpose(1, 2).reshape(len(tokens), -1, *GRID)

    with GradCAM(model, [model.blocks[-1].norm1], reshape_transform=to_grid) as cam:
        expected = cam(images, targets=[ClassifierOutputTarget(chosen)] * len(images))
    # that package shows its maps scaled and at the image's size
    maps = explain(model, images, chosen, method="gradcam").heatmaps[:, 0].numpy()
    shown = scale_cam_image(scale_cam_image(maps, expected.shape[:0:-1]))
    assert abs(shown - expected).max() < 1e-4


@pytest.mark.parametrize(
    "name", ["vit_base_patch16_gap_224", "deit_tiny_distilled_patch16_224", "vit_base_patch16_siglip_224"]
)
def test_gradcam_reaches_other_heads(name: str) -> None:
    assert explain(small_model(name), random_images(), "all", method="gradcam").heatmaps.max() > 0


@pytest.mark.parametrize("readout", ["mean", "class"])
def test_legrad(case: tuple[nn.Module, Tensor, int], readout: str) -> None:
    model, images, prefix = case
    maps = []
    for chosen in range(CLASSES):
        layers = []
        for number in range(3):
            cut, tokens = Attention(detach=False), model.norm_pre(model._pos_embed(model.patch_embed(images)))
            for block in model.blocks[:number]:
                tokens = block(tokens)
            with cut:
                tokens = model.blocks[number](tokens)
            pooled = tokens.mean(1) if readout == "mean" else tokens[:, 0]
            logit = model.head(model.norm(pooled))[:, chosen].sum()
            (gradient,) = torch.autograd.grad(logit, cut.matrices)
            layers.append(gradient.clamp(min=0).mean(1).mean(1))
        maps.append(on_grid(sum(layers) / 3, prefix, GRID))
    assert error(found(model, images, "legrad", readout=readout), torch.cat(maps, 1)) < 1e-6


def test_input_x_gradient() -> None:
    model, images = small_model().double(), random_images().double()
    pixels = images.clone().requires_grad_()
    logits = model(pixels)
    for reduction in ("sum", "abs"):
        maps = []
        for chosen in range(CLASSES):
            (gradient,) = torch.autograd.grad(logits[:, chosen].sum(), pixels, retain_graph=True)
            product = images * gradient if reduction == "sum" else (images * gradient).abs()
            maps.append(product.unfold(2, 8, 8).unfold(3, 8, 8).sum((1, 4, 5)))
        expected = torch.stack(maps, 1)
        difference = found(model, images, "input_x_gradient", reduction=reduction) - expected
        assert difference.abs().max() < 1e-6 * expected.abs().max()


def test_integrated_gradients_sum_to_the_difference_of_the_logits() -> None:
    model, images = small_model().double(), random_images().double()
    maps = explain(model, images, 3, method="integrated_gradients", steps=100).heatmaps
    with torch.no_grad():
        difference = (model(images) - model(torch.zeros_like(images)))[:, 3:4]
    torch.testing.assert_close(maps.sum((2, 3)).double(), difference, rtol=1e-2, atol=1e-2)


def test_without_captum_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(InputError, match=r"pip install 'agcam\[captum\]'"):
        explain(small_model(), random_images(), method="input_x_gradient")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("gradcam", {"block": 2}, "block must be a number from -2 to 1 for vit_tiny_patch16_224, found 2"),
        ("legrad", {"readout": "max"}, "readout must be one of mean, class, found 'max'"),
        ("input_x_gradient", {"reduction": "max"}, "reduction must be one of sum, abs, found 'max'"),
        ("integrated_gradients", {"steps": 0}, "steps must be a whole number from 1 on, found 0"),
    ],
    ids=str,
)
def test_bad_options(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        explain(small_model(), random_images(), method=method, **options)


@pytest.mark.parametrize("method", ["generic_attention", "attention_gradcam", "legrad"])
@pytest.mark.parametrize("name", ["vit_base_patch16_gap_224", "cait_xxs24_224", "vit_small_patch16_18x2_224"])
def test_layouts_that_are_not_reached(name: str, method: str) -> None:
    with pytest.raises(ModelError, match=f"{method} (follows one class token|needs one attention)|{method} needs"):
        explain(small_model(name), random_images(), method=method)
