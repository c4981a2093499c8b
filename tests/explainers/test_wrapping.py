"""However a model is wrapped, switched or stored, its map is that of the plain model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import timm.layers
import torch
import torch.distributed
from small_models import CLASSES, error, random_images, small_model, spread
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from agcam import explain
from agcam.explainers.explain import explain_recording
from agcam.explainers.recorder import Tape, record
from agcam.explainers.replay import replay
from agcam.training.classifier import ViTClassifier


@pytest.fixture
def images() -> Tensor:
    return random_images()


@pytest.fixture
def expected(images: Tensor) -> Tensor:
    return explain(small_model(), images, "all").heatmaps


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def _compiler() -> Iterator[None]:
    yield
    torch.compiler.reset()


def _compiled_blocks(model: nn.Module) -> nn.Module:
    for number, block in enumerate(model.blocks):
        model.blocks[number] = torch.compile(block, backend="eager")
    return model


def _compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


COMPILED = {
    "wrapped": lambda model: torch.compile(model, backend="eager"),
    "in place": _compiled_in_place,
    "blocks": _compiled_blocks,
}


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("how", COMPILED)
def test_compiled_models(how: str, images: Tensor, expected: Tensor) -> None:
    model = COMPILED[how](small_model())
    with torch.no_grad():
        logits = model(images)
    assert error(explain(model, images, "all").heatmaps, expected) < 1e-5
    with Tape(model) as tape, torch.no_grad():
        model(images)
    assert error(explain_recording(tape.recording, "all").heatmaps, expected) < 1e-5
    with torch.no_grad():
        torch.testing.assert_close(model(images), logits)


@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel(images: Tensor, expected: Tensor) -> None:
    model = DistributedDataParallel(small_model())
    assert error(explain(model, images, "all").heatmaps, expected) < 1e-5
    with Tape(model) as tape, torch.no_grad():
        model(images)
    assert error(explain_recording(tape.recording, "all").heatmaps, expected) < 1e-5


@pytest.mark.usefixtures("_compiler", "process_group")
def test_classifier_compiled_and_distributed(images: Tensor, expected: Tensor) -> None:
    classifier = ViTClassifier(
        "vit_tiny_patch16_224",
        image_size=32,
        backbone_args={"patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3},
        class_names=[str(number) for number in range(CLASSES)],
        multilabel=False,
    )
    spread(classifier.backbone)
    assert error(explain(classifier.eval(), images, "all").heatmaps, expected) < 1e-5
    wrapped = DistributedDataParallel(torch.compile(classifier, backend="eager"))
    assert error(explain(wrapped, images, "all").heatmaps, expected) < 1e-5


def test_fused_attention_switched_off_on_the_modules(images: Tensor, expected: Tensor) -> None:
    model = small_model()
    model.blocks[1].attn.fused_attn = False
    assert error(explain(model, images, "all").heatmaps, expected) < 1e-5
    assert [block.attn.fused_attn for block in model.blocks] == [True, False]


def test_fused_attention_switched_off_in_timm(images: Tensor, expected: Tensor) -> None:
    timm.layers.set_fused_attn(False)
    try:
        model = small_model()
    finally:
        timm.layers.set_fused_attn(True)
    assert not model.blocks[0].attn.fused_attn
    assert error(explain(model, images, "all").heatmaps, expected) < 1e-5
    assert not any(block.attn.fused_attn for block in model.blocks)


def test_gradient_checkpointing(images: Tensor, expected: Tensor) -> None:
    model = small_model()
    model.set_grad_checkpointing()
    assert error(explain(model, images, "all").heatmaps, expected) < 1e-5


def test_a_forward_that_is_also_trained_on_with_checkpointing(images: Tensor, expected: Tensor) -> None:
    model = small_model()
    model.set_grad_checkpointing()
    with Tape(model) as tape:
        model(images).sum().backward()  # runs the blocks once more
    assert len(tape.recording.calls) == 2
    gradient = model.blocks[0].attn.qkv.weight.grad.clone()
    assert error(explain_recording(tape.recording, "all").heatmaps, expected) < 1e-5
    assert torch.equal(model.blocks[0].attn.qkv.weight.grad, gradient)


class LowRank(nn.Module):
    """A LoRA-style adapter: the base layer plus a product of two thin ones."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, 4, bias=False)
        self.up = nn.Linear(4, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


@pytest.mark.parametrize("family", ["vit_tiny_patch16_224", "vit_base_patch16_gap_224"])
def test_low_rank_adapters_on_qkv_equal_merged_weights(family: str, images: Tensor) -> None:
    adapted, merged = small_model(family), small_model(family)
    with torch.no_grad():
        for with_adapter, plain in zip(adapted.blocks, merged.blocks, strict=True):
            adapter = LowRank(with_adapter.attn.qkv)
            with_adapter.attn.qkv = adapter
            plain.attn.qkv.weight += adapter.up.weight @ adapter.down.weight
    adapted.requires_grad_(False)
    expected = explain(merged, images, "all").heatmaps
    assert error(expected, explain(small_model(family), images, "all").heatmaps) > 1e-3
    assert error(explain(adapted, images, "all").heatmaps, expected) < 1e-5


def test_frozen_backbone(images: Tensor, expected: Tensor) -> None:
    model = small_model().requires_grad_(False)
    model.head.requires_grad_(True)
    assert torch.equal(explain(model, images, "all").heatmaps, expected)


def test_channels_last(images: Tensor, expected: Tensor) -> None:
    model = small_model().to(memory_format=torch.channels_last)
    maps = explain(model, images.to(memory_format=torch.channels_last), "all").heatmaps
    assert error(maps, expected) < 1e-5


# the recorded scores and values carry the forward's precision: 8 bits of mantissa in bfloat16, 11 in float16
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.bfloat16, 0.05), (torch.float16, 0.005)], ids=str
)
@pytest.mark.parametrize("family", ["vit_tiny_patch16_224", "vit_base_patch16_gap_224", "vit_base_patch16_siglip_224"])
def test_weights_of_other_precision(family: str, dtype: torch.dtype, tolerance: float) -> None:
    model, images = small_model(family).to(dtype), random_images().to(dtype)
    found = explain(model, images, "all")
    assert found.heatmaps.dtype == torch.float32
    assert all(parameter.dtype == dtype for parameter in model.parameters())
    expected = explain(model.float(), images.float(), "all").heatmaps  # the same, rounded, weights
    assert error(found.heatmaps, expected) < tolerance


def test_autocast_to_bfloat16(images: Tensor, expected: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        explanation = explain(small_model(), images, "all")
        recording = record(small_model(), images)
        inside = explain_recording(recording, "all").heatmaps
    assert explanation.logits.dtype == torch.bfloat16
    assert error(explanation.heatmaps, expected) < 0.05
    # the caller's autocast does not reach the gradients
    assert torch.equal(inside, explain_recording(recording, "all").heatmaps)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("classes", [None, 3, "all"])
@pytest.mark.parametrize("gradient", ["skip", "full"])
def test_under_switched_off_autograd(mode: type, classes: int | str | None, gradient: str, images: Tensor) -> None:
    model = small_model()
    expected = explain(model, images, classes, gradient=gradient).heatmaps
    with mode():
        explanation = explain(model, images.clone(), classes, gradient=gradient)
    assert torch.equal(explanation.heatmaps, expected)
    assert not explanation.heatmaps.is_inference()
    assert not explanation.logits.requires_grad


def test_a_replay_under_inference_mode_can_be_differentiated(images: Tensor) -> None:
    with torch.inference_mode(), replay(record(small_model(), images)) as replayed:
        assert all(g.abs().max() > 0 for g in torch.autograd.grad(replayed.logits.sum(), replayed.outputs))


def test_a_model_made_in_inference_mode(images: Tensor, expected: Tensor) -> None:
    with torch.inference_mode():
        model = small_model()
    assert model.head.weight.is_inference()
    assert error(explain(model, images, "all").heatmaps, expected) < 1e-5
