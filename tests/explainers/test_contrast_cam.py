"""ContrastCAM against its definition: every attention matrix kept, loops over images, classes and patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain import golden_model
from safetensors.torch import load_file
from small_models import CLASSES, GRID, random_images, small_model
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from agcam import explain
from agcam.explainers.explain import explain_recording
from agcam.explainers.recorder import record

GOLDEN = Path(__file__).parents[1] / "golden" / "contrast_cam.safetensors"
NAMES = {
    "vit_tiny_patch16_224": 1,
    "vit_small_patch14_reg4_dinov2": 5,
    "deit_tiny_distilled_patch16_224": 2,
    "vit_base_patch16_gap_224": 0,
}


class _Kept(TorchFunctionMode):
    """Computes attention of constants step by step and keeps A, a leaf, and V of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.matrices: list[Tensor] = []
        self.values: list[np.ndarray] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = (arg.detach() for arg in args[:3])
        self.matrices.append((query @ key.mT / query.shape[-1] ** 0.5).softmax(-1).requires_grad_())
        self.values.append(value.numpy())
        return self.matrices[-1] @ value


def reference(model: nn.Module, images: Tensor, prefix: int, alone: bool = False) -> np.ndarray:
    """Maps (B, C, h·w) of every class; `alone` without contrast."""
    hooks = [block.attn.register_forward_pre_hook(lambda _, args: (args[0].detach(),)) for block in model.blocks]
    with torch.enable_grad(), _Kept() as kept:
        logits = model(images)
    for hook in hooks:
        hook.remove()
    maps = np.zeros((*logits.shape, kept.matrices[0].shape[-1] - prefix))
    for b in range(logits.shape[0]):
        value = np.concatenate(list(kept.values[-1][b]), 1)[prefix:]
        value = value - value.mean(0)
        for c in range(logits.shape[1]):
            lead = logits[b, c] - (0 if alone else logits[b].mean())
            gradients = torch.autograd.grad(lead, kept.matrices, retain_graph=True)
            evidence = sum(
                (a[b].detach() * g[b]).sum((0, 1))[prefix:].numpy()
                for a, g in zip(kept.matrices, gradients, strict=True)
            )
            spread = np.array([_average(value, evidence, patch) for patch in range(len(evidence))]).clip(min=0)
            unit = (spread - spread.min()) / (spread.max() - spread.min())
            maps[b, c] = unit ** (np.log(0.5) / np.log(unit.mean()))
    return maps


def _average(value: np.ndarray, evidence: np.ndarray, patch: int) -> float:
    lengths = np.linalg.norm(value, axis=1)
    weights = np.exp(value @ value[patch] / (lengths * lengths[patch]) / 0.2)
    return float(weights @ evidence / weights.sum())


@pytest.mark.parametrize("name", NAMES)
def test_maps_of_every_class_equal_the_definition(name: str) -> None:
    model, images = small_model(name, depth=3).double(), random_images().double()
    expected = reference(model, images, NAMES[name]).reshape(2, CLASSES, *GRID)
    found = explain(model, images, "all", "contrast_cam").heatmaps
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_maps_equal_golden_figures() -> None:
    """Made by `reference` above in float64; a change of the method changes every result that was published."""
    model, golden = golden_model("vit_64_p8", torch.float64)
    found = explain(model, golden["input"].double(), "all", "contrast_cam").heatmaps
    torch.testing.assert_close(found, load_file(GOLDEN)["contrast_cam_all"], rtol=0, atol=1e-5)


def test_a_single_output_has_nothing_to_be_compared_with() -> None:
    model, images = small_model(num_classes=1).double(), random_images().double()
    expected = reference(model, images, 1, alone=True).reshape(2, 1, *GRID)
    np.testing.assert_allclose(explain(model, images, 0, "contrast_cam").heatmaps.numpy(), expected, atol=1e-6)


def test_a_score_is_explained_by_itself() -> None:
    model, images = small_model().double(), random_images().double()
    found = explain(model, images, method="contrast_cam", score=lambda logits: logits[:, 2:3] * 3).heatmaps
    expected = reference(model, images, 1, alone=True)[:, 2].reshape(2, 1, *GRID)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_a_number_added_to_every_logit_changes_nothing() -> None:
    model, images = small_model().double(), random_images().double()
    before = explain(model, images, "all", "contrast_cam").heatmaps
    with torch.no_grad():
        model.head.weight += torch.randn(48, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(explain(model, images, "all", "contrast_cam").heatmaps, before, rtol=0, atol=1e-5)


def test_a_map_runs_from_0_to_1() -> None:
    found = explain(small_model(), random_images(), "all", "contrast_cam").heatmaps.flatten(2)
    assert torch.equal(found.amax(2), torch.ones(2, CLASSES))
    assert torch.equal(found.amin(2), torch.zeros(2, CLASSES))


def test_patches_that_do_not_differ_give_an_empty_map() -> None:
    model = small_model()
    with torch.no_grad():
        model.pos_embed[:, 1:] = 1
    found = explain(model, torch.ones(1, 3, 32, 32), "all", "contrast_cam").heatmaps
    assert torch.equal(found, torch.zeros(1, CLASSES, *GRID))


def test_a_caller_s_autocast_does_not_reach_the_arithmetic_of_the_map() -> None:
    model, images = small_model(), random_images()
    recording = record(model, images)
    expected = explain_recording(recording, "all", "contrast_cam").heatmaps
    with torch.autocast("cpu", torch.bfloat16):
        found = explain_recording(recording, "all", "contrast_cam").heatmaps
    torch.testing.assert_close(found, expected)
