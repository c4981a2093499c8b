"""The loss on heatmaps, against the plain AG-CAM, and its gradient against finite differences of that."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from eager import eager_agcam
from small_models import GRID, random_images, small_model
from torch import Tensor, nn

from agcam import Tape, explain, guidance_loss
from agcam.errors import InputError, ModelError

CLASSES = [1, 3]
TARGETS = torch.tensor([CLASSES, CLASSES])
IMAGES = random_images()
REGIONS = torch.rand(2, 2, 32, 32, generator=torch.Generator().manual_seed(0)) > 0.6


def recorded(model: nn.Module, images: Tensor = IMAGES) -> Any:
    with Tape(model, graph=True) as tape:
        model(images)
    return tape.recording


def outside(maps: Tensor, regions: Tensor) -> Tensor:
    """The share (B, T) of maps (B, T, h, w) outside regions (B, T, H, W), by sums over 8×8 patches."""
    share = regions.double().unflatten(3, (4, 8)).unflatten(2, (4, 8)).mean((3, 5))
    return 1 - (maps.double() * share).sum((2, 3)) / maps.double().sum((2, 3))


def plain_loss(model: nn.Module) -> Tensor:
    return outside(eager_agcam(model, IMAGES.double(), CLASSES, GRID), REGIONS).mean(1)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("vit_tiny_patch16_224", {}),
        ("deit_tiny_distilled_patch16_224", {}),
        ("vit_small_patch14_reg4_dinov2", {}),
        ("vit_tiny_patch16_224", {"global_pool": "avg"}),
    ],
)
def test_the_gradient_by_every_parameter_is_that_of_finite_differences(name: str, changes: dict[str, Any]) -> None:
    model, weights = small_model(name, **changes).double(), torch.tensor([0.7, 1.3]).double()
    loss = guidance_loss(recorded(model, IMAGES.double()), TARGETS, REGIONS)
    assert (loss - plain_loss(model)).abs().max() < 1e-12
    (loss * weights).sum().backward()
    generator = torch.Generator().manual_seed(2)
    for parameter_name, parameter in model.named_parameters():
        direction, ends = torch.randn(parameter.shape, generator=generator).double(), []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                parameter.add_(step * direction)
            ends.append((plain_loss(model) * weights).sum())
            with torch.no_grad():
                parameter.sub_(step * direction)
        slope = 0.0 if parameter.grad is None else float((parameter.grad * direction).sum())
        assert slope == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-7), parameter_name


def test_what_the_heatmap_does_not_depend_on_gets_no_gradient() -> None:
    model = small_model()
    model.patch_embed.requires_grad_(False)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    loss = guidance_loss(recorded(model), TARGETS, REGIONS)
    assert all(parameter.grad is None for parameter in model.parameters())
    loss.sum().backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    # added to the logit, they shift it alone
    assert without == {"head.bias", "norm.bias", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_images_and_targets_without_an_object_and_ignored_pixels_do_not_count() -> None:
    model, regions = small_model(), REGIONS.clone()
    maps = explain(model, IMAGES, TARGETS).heatmaps
    regions[0, 1] = False
    ignored = torch.zeros_like(regions)
    ignored[..., :8] = True  # the first column of patches
    loss = guidance_loss(recorded(model), TARGETS, regions, ignored)
    left = (maps * (1 - F.avg_pool2d(regions.float(), 8)))[..., 1:].sum((2, 3)) / maps[..., 1:].sum((2, 3))
    assert loss.tolist() == pytest.approx([float(left[0, 0]), float(left[1].mean())], rel=1e-5)
    none = guidance_loss(recorded(model), TARGETS, torch.zeros_like(regions))
    assert none.tolist() == [0, 0]
    assert not none.requires_grad


def test_what_drop_path_drops_stays_dropped_and_the_generator_goes_on_as_without_the_loss() -> None:
    model = small_model(drop_path_rate=0.5, depth=4).double().train()

    def loss() -> Tensor:
        torch.manual_seed(3)
        return guidance_loss(recorded(model, IMAGES.double()), TARGETS, REGIONS).sum()

    dropped = loss()
    drawn = torch.rand(1)
    torch.manual_seed(3)
    model(IMAGES.double())
    assert torch.equal(torch.rand(1), drawn)
    assert (dropped - plain_loss(model.eval()).sum()).abs() > 1e-3  # another network

    dropped.backward()
    parameters = [parameter for parameter in model.train().parameters() if parameter.grad is not None]
    directions = [torch.randn_like(parameter) for parameter in parameters]
    slope, ends = sum((p.grad * d).sum() for p, d in zip(parameters, directions, strict=True)), []
    for step in (1e-6, -2e-6):  # there, and to the other side
        with torch.no_grad():
            torch._foreach_add_(parameters, directions, alpha=step)
        ends.append(loss().detach())
    assert float(slope.detach()) == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-5)


def test_mixed_precision_comes_close() -> None:
    model = small_model()
    with torch.autocast("cpu", torch.bfloat16):
        recording = recorded(model)
        loss = guidance_loss(recording, TARGETS, REGIONS)
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, guidance_loss(recorded(model), TARGETS, REGIONS), atol=0.02)
    loss.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_what_cannot_be_run_again_alike_is_refused() -> None:
    model = small_model(depth=3, proj_drop_rate=0.5).train()
    with pytest.raises(ModelError, match=r"drop whole branches .* neither single numbers nor patches"):
        guidance_loss(recorded(model), TARGETS, REGIONS)
    model = small_model(drop_rate=0.5).train()  # of the head, which reads one row: that is drawn again
    assert guidance_loss(recorded(model), TARGETS, REGIONS).isfinite().all()


def test_an_attention_that_reads_its_input_beside_the_calls_is_refused() -> None:
    model = small_model()
    attention = model.blocks[1].attn
    gate, forward = nn.Linear(48, 48), attention.forward
    attention.forward = lambda x, *args, **kwargs: forward(x, *args, **kwargs) * gate(x).sigmoid()
    explain(model, IMAGES, TARGETS)  # a constant is right there
    with pytest.raises(ModelError, match="queries, keys and values alone"):
        guidance_loss(recorded(model), TARGETS, REGIONS)


def test_a_recording_without_graph_and_regions_of_another_shape_are_refused() -> None:
    model = small_model()
    with Tape(model) as tape:
        model(IMAGES)
    with pytest.raises(ModelError, match="Tape\\(model, graph=True\\)"):
        guidance_loss(tape.recording, TARGETS, REGIONS)
    with pytest.raises(InputError, match=r"regions must be bool \(2, 2, 32, 32\), .* found torch.float32"):
        guidance_loss(recorded(model), TARGETS, REGIONS.float())
    with pytest.raises(InputError, match=r"found torch.bool \(2, 32, 32\)"):
        guidance_loss(recorded(model), TARGETS, REGIONS[:, 0])


def test_a_margin_that_the_patches_leave_does_not_count() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=36, patch_size=8, embed_dim=48, depth=2, num_heads=3)
    regions = torch.zeros(2, 36, 36, dtype=torch.bool)
    regions[:, 32:] = True
    regions[:, :8, :8] = True
    images = random_images(36, 36)
    maps = explain(model.eval(), images, 5).heatmaps[:, 0]
    loss = guidance_loss(recorded(model, images), torch.tensor([5, 5]), regions)
    assert torch.allclose(loss, 1 - maps[:, 0, 0] / maps.sum((1, 2)), atol=1e-5)
