"""Raw attention and rollout against their definitions, the authors' figures and the price promised."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from eager import Attention
from plain import golden_model, on_grid
from small_models import GRID, error, random_images, small_model
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from agcam import explain
from agcam.errors import InputError, ModelError
from agcam.explainers.explain import explain_recording
from agcam.explainers.recorder import record

RAW = {
    "vit_tiny_patch16_224": (1, 1, slice(None)),
    "vit_small_patch14_reg4_dinov2": (1, 5, slice(None)),
    "deit_tiny_distilled_patch16_224": (2, 2, slice(None)),
    "vit_base_patch16_gap_224": (None, 0, slice(None)),
    "vit_base_patch16_siglip_224": (1, 0, slice(2, None)),
}


def attention_of(model: nn.Module, images: Tensor) -> list[Tensor]:
    with Attention(detach=True) as attention:
        model(images)
    return [matrix.detach() for matrix in attention.matrices]


@pytest.mark.parametrize("name", RAW)
def test_raw_attention_is_its_definition(name: str) -> None:
    rows, prefix, used = RAW[name]
    model, images = small_model(name).double(), random_images().double()
    matrices = attention_of(model, images)[used]
    expected = sum(matrix[:, :, :rows].sum((1, 2)) for matrix in matrices)
    found = explain(model, images, "all", method="raw_attention").heatmaps
    assert error(found.double(), on_grid(expected, prefix, GRID).expand(-1, 5, -1, -1)) < 1e-6


def plain_rollout(matrices: list[Tensor], fusion: str, ratio: float, prefix: int, rows: bool) -> Tensor:
    maps = []
    for image in range(len(matrices[0])):
        product = torch.eye(matrices[0].shape[-1]).to(matrices[0])
        for matrix in matrices:
            heads = matrix[image]
            fused = {"mean": heads.mean(0), "max": heads.max(0).values, "min": heads.min(0).values}[fusion]
            for row in fused:
                others = row[1:]
                others[others.argsort()[: int(len(others) * ratio)]] = 0
            fused = fused + torch.eye(len(fused))
            sums = fused.sum(1)
            product = (fused / (sums[:, None] if rows else sums[None])) @ product
        maps.append(product[0])
    return on_grid(torch.stack(maps), prefix, GRID)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize(("name", "prefix"), [("vit_tiny_patch16_224", 1), ("vit_small_patch14_reg4_dinov2", 5)])
def test_rollout_is_its_definition(name: str, prefix: int, fusion: str, ratio: float) -> None:
    model, images = small_model(name, depth=3).double(), random_images(batch=3).double()
    matrices = attention_of(model, images)
    for normalization in ("rows", "leem2024", None):
        rows = normalization == "rows" or (normalization is None and ratio > 0)
        options = {"head_fusion": fusion, "discard_ratio": ratio, "normalization": normalization}
        found = explain(model, images, [1, 2, 0], method="rollout", **options).heatmaps
        expected = plain_rollout([matrix.clone() for matrix in matrices], fusion, ratio, prefix, rows)
        assert error(found.double(), expected) < 1e-6


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("name", ["vit_64_p8", "vit_96_p16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rollout_equals_the_authors(name: str, fusion: str, dtype: torch.dtype) -> None:
    model, golden = golden_model(name, dtype)
    found = explain(model, golden["input"].to(dtype), method="rollout", head_fusion=fusion)
    assert error(found.heatmaps, golden[f"rollout_{fusion}_0.0"]) < 1e-5
    torch.testing.assert_close(found.logits.float(), golden["logits"], rtol=1e-4, atol=1e-4)


def test_rollout_of_each_image_is_that_of_the_image_alone() -> None:
    model, images = small_model(), random_images(batch=3)
    together = explain(model, images, 1, method="rollout", discard_ratio=0.5).heatmaps
    alone = [explain(model, image[None], 1, method="rollout", discard_ratio=0.5).heatmaps for image in images]
    assert error(together, torch.cat(alone)) < 1e-5


def test_rollout_runs_one_forward_and_explains_a_recording_with_one_more() -> None:
    model, images = small_model(), random_images()
    recording = record(model, images)
    calls = []
    model.patch_embed.register_forward_pre_hook(lambda *_: calls.append(1))
    expected = explain(model, images, "all", method="rollout")
    assert len(calls) == 1
    found = explain_recording(recording, "all", "rollout")
    assert len(calls) == 2
    torch.testing.assert_close(found.heatmaps, expected.heatmaps)
    torch.testing.assert_close(found.logits, expected.logits)
    explain_recording(recording, "all", "raw_attention")
    assert len(calls) == 2


def test_rollout_multiplies_a_vector_by_a_matrix() -> None:
    model, images = small_model(img_size=64), random_images(64, 64)
    with FlopCounterMode(display=False) as plain, torch.inference_mode():
        model(images)
    with FlopCounterMode(display=False) as explained:
        explain(model, images, 3, method="rollout")
    images_and_blocks, tokens, width = 2 * 2, 65, 48
    attention = images_and_blocks * 4 * tokens**2 * width  # the counter does not see fused attention on a CPU
    vector_times_matrix = images_and_blocks * 2 * tokens**2
    assert explained.get_total_flops() - plain.get_total_flops() <= attention + vector_times_matrix


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_fusion": "sum"}, "head_fusion must be one of mean, max, min, found 'sum'"),
        ({"discard_ratio": 1.0}, r"in \[0, 1\), found 1.0"),
        ({"discard_ratio": "half"}, r"in \[0, 1\), found 'half'"),
        ({"normalization": "columns"}, "one of rows, leem2024 or None, found 'columns'"),
    ],
    ids=str,
)
def test_options_of_rollout(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        explain(small_model(), random_images(), method="rollout", **options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deit_tiny_distilled_patch16_224", "more than one token"),
        ("vit_base_patch16_gap_224", "pools over its tokens"),
        ("vit_base_patch16_siglip_224", "pools its tokens by attention"),
        ("cait_xxs24_224", "class-attention"),
        ("vit_small_patch16_18x2_224", "2 blocks made 4"),
    ],
)
def test_layouts_that_rollout_does_not_reach(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        explain(small_model(name), random_images(), method="rollout")


def test_a_recording_of_other_weights_is_refused() -> None:
    model, images = small_model(), random_images()
    recording = record(model, images)
    model.head.weight.data.mul_(2)
    with pytest.raises(ModelError, match="logits differ"):
        explain_recording(recording, method="rollout")
