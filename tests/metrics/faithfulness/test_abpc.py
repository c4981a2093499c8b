"""ABPC: parity with the paper's published code, cost, and the model left as found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from agcam import InputError, ModelError
from agcam.metrics import ABPC
from agcam.metrics.faithfulness.abpc import abpc_curves
from metric_cases import random_heatmaps, tiny_vit

GOLDEN = Path(__file__).parents[2] / "golden" / "perturbation.safetensors"
Golden = tuple[VisionTransformer, Tensor, dict[str, Tensor]]


@pytest.fixture(scope="module")
def golden() -> Golden:
    with safe_open(GOLDEN, "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # the handle cannot be iterated
    model = VisionTransformer(**json.loads(metadata["model"]))
    weights = {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}
    model.load_state_dict(weights)
    images = (tensors["image_uint8"].float() / 255 - float(metadata["mean"])) / float(metadata["std"])
    return model.eval(), images, tensors


def test_every_point_of_every_image_matches_the_golden_curves(golden: Golden) -> None:
    model, images, expected = golden
    lerf, morf = abpc_curves(model, images, expected["heatmap"], expected["target"], batch_size=16)
    torch.testing.assert_close(lerf.double(), expected["lerf"], rtol=1e-5, atol=0)
    torch.testing.assert_close(morf.double(), expected["morf"], rtol=1e-5, atol=0)


def test_figures_match_the_golden_ones_over_two_batches(golden: Golden) -> None:
    model, images, expected = golden
    metric = ABPC(model, batch_size=16)
    for rows in (slice(0, 4), slice(4, 6)):
        metric.update(images[rows], expected["heatmap"][rows], expected["target"][rows])
    found = metric.compute()
    for key in ("abpc", "lerf_auc", "morf_auc"):
        assert float(found[key]) == pytest.approx(float(expected[key]), rel=1e-5)
    torch.testing.assert_close(found["lerf"].double(), expected["lerf"].mean(1), rtol=1e-5, atol=0)
    torch.testing.assert_close(found["morf"].double(), expected["morf"].mean(1), rtol=1e-5, atol=0)
    assert int(found["count"]) == 6


class Brightness(nn.Module):
    """Logits: the mean of each colour channel, so what is left of the image can be read off."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.9)
        self.forwards: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.forwards.append(len(images))
        return self.dropout(images.mean((2, 3)))


def test_by_hand_the_bright_half_goes_first_or_last() -> None:
    images = torch.zeros(1, 3, 10, 10)
    images[0, 0, :5] = 2  # 50 pixels carry the class
    heatmap = torch.zeros(1, 10, 10)
    heatmap[0, :5] = 1
    found = abpc_curves(Brightness(), images, heatmap, torch.tensor([0]))
    steps = torch.arange(11) / 10
    lerf_left = (1 - steps).mul(2).clamp(max=1)
    morf_left = (0.5 - steps).clamp(min=0).mul(2)
    for curve, left in zip(found, (lerf_left, morf_left), strict=True):
        torch.testing.assert_close(curve[:, 0], left.exp() / (left.exp() + 2))


def test_cost_is_nineteen_forwards_an_image_in_full_batches_and_one_of_a_zeroed_image() -> None:
    model = Brightness()
    ABPC(model, batch_size=32).update(torch.randn(8, 3, 16, 16), random_heatmaps(8), torch.zeros(8, dtype=torch.long))
    assert sum(model.forwards) == 19 * 8 + 1
    assert len(model.forwards) <= 7
    assert max(model.forwards) == 32


def test_batch_size_changes_nothing() -> None:
    model, images, heatmaps = tiny_vit(), torch.randn(3, 3, 32, 32), random_heatmaps(3)
    one = abpc_curves(model, images, heatmaps, torch.tensor([0, 1, 2]), batch_size=1)
    all_at_once = abpc_curves(model, images, heatmaps, torch.tensor([0, 1, 2]), batch_size=1000)
    torch.testing.assert_close(one, all_at_once, rtol=1e-4, atol=1e-6)


def test_a_constant_map_takes_the_same_pixels_both_ways() -> None:
    metric = ABPC(tiny_vit())
    metric.update(torch.randn(2, 3, 32, 32), torch.full((2, 4, 4), 0.3), torch.tensor([0, 1]))
    assert float(metric.compute()["abpc"]) == 0


def test_units_of_the_heatmap_do_not_matter() -> None:
    model, images, heatmaps = tiny_vit(), torch.randn(2, 3, 32, 32), random_heatmaps(2)
    one = abpc_curves(model, images, heatmaps, torch.tensor([0, 1]))
    other = abpc_curves(model, images, heatmaps * 2.0**-20, torch.tensor([0, 1]))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_the_model_is_left_as_found_and_stays_outside_the_metric() -> None:
    model = Brightness()
    model.eval()
    model.dropout.train()
    images = torch.randn(2, 3, 16, 16, requires_grad=True)
    metric = ABPC(model)
    metric.update(images, random_heatmaps(2), torch.tensor([0, 1]))
    assert not model.training
    assert model.dropout.training
    assert images.grad is None
    assert not metric.sums.requires_grad
    assert list(metric.children()) == []


def test_bad_input_is_named() -> None:
    model, images, maps = tiny_vit(), torch.randn(2, 3, 32, 32), random_heatmaps(2)
    with pytest.raises(InputError, match="2 images, 1 heatmaps, 2 targets"):
        ABPC(model).update(images, maps[:1], torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r"images must be \(B, 3, H, W\) floats.*uint8"):
        ABPC(model).update((images * 0).byte(), maps, torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r"targets must be \(B,\) class indices.*\(2, 1\)"):
        ABPC(model).update(images, maps, torch.tensor([[0], [1]]))
    with pytest.raises(InputError, match=r"targets must be in \[0, 4\].*\[0, 5\]"):
        ABPC(model).update(images, maps, torch.tensor([0, 5]))
    with pytest.raises(InputError, match="batch_size must be 1 or more, found 0"):
        ABPC(model, batch_size=0)
    with pytest.raises(ModelError, match=r"must return logits .* found \(\d+, 16, 32, 32\)"):
        ABPC(nn.Conv2d(3, 16, 1)).update(images, maps, torch.tensor([0, 1]))
