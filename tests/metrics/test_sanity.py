"""Parameter randomisation: what is re-initialised when, and how similarity is measured."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from agcam import InputError, ModelError
from agcam.metrics import ParameterRandomization
from agcam.metrics.sanity import parameter_randomization, randomized, similarity, vit_parts
from metric_cases import random_heatmaps, tiny_vit

PARTS = ["head", "norm", "blocks.1", "blocks.0", "patch_embed"]


def by_embedding(model: nn.Module, images: Tensor) -> Tensor:
    """A map that reads everything up to the last block, and neither norm nor head."""
    assert isinstance(model, VisionTransformer)
    with torch.no_grad():
        return model.forward_intermediates(images, indices=1, intermediates_only=True)[0].mean(1)


def by_image(model: nn.Module, images: Tensor) -> Tensor:
    return images.mean(1)


def changed_parts(before: nn.Module, after: nn.Module) -> list[str]:
    old = {name: parameter.clone() for name, parameter in before.named_parameters()}
    return [
        part
        for part, parameters in vit_parts(after)
        if any(not torch.equal(parameter, old[name]) for name, parameter in parameters)
    ]


def test_every_parameter_belongs_to_one_part_from_the_head_down() -> None:
    model = tiny_vit()
    parts = vit_parts(model)
    assert [name for name, _ in parts] == PARTS
    names = [name for _, parameters in parts for name, _ in parameters]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert [name for name, _ in vit_parts(nn.ModuleDict({"backbone": model}))] == PARTS


def test_cascading_goes_from_the_head_down_and_independent_one_by_one() -> None:
    model = tiny_vit()
    cascade = [(name, changed_parts(model, changed)) for name, changed in randomized(model, "cascading")]
    assert cascade == [(name, PARTS[: index + 1]) for index, name in enumerate(PARTS)]
    alone = [(name, changed_parts(model, changed)) for name, changed in randomized(model, "independent")]
    assert alone == [(name, [name]) for name in PARTS]


def test_the_model_itself_is_never_touched() -> None:
    model = tiny_vit().train()
    before = copy.deepcopy(model.state_dict())
    parameter_randomization(model, torch.randn(2, 3, 32, 32), by_embedding)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training


def test_numbers_follow_the_seed_not_the_mode() -> None:
    model = tiny_vit()

    def block(mode: str, seed: int) -> Tensor:
        for name, changed in randomized(model, mode, seed):
            if name == "blocks.0":
                return changed.get_parameter("blocks.0.attn.qkv.weight").detach().clone()
        raise AssertionError

    torch.testing.assert_close(block("cascading", 1), block("independent", 1), rtol=0, atol=0)
    assert not torch.equal(block("cascading", 1), block("cascading", 2))
    assert float(block("cascading", 1).std()) == pytest.approx(0.02, rel=0.1)


def test_a_map_that_ignores_the_model_stays_and_one_that_reads_it_does_not() -> None:
    model, images = tiny_vit(), torch.randn(4, 3, 32, 32)
    spearman, ssim = parameter_randomization(model, images, by_image)
    torch.testing.assert_close(spearman, torch.ones_like(spearman), atol=1e-4, rtol=0)
    torch.testing.assert_close(ssim, torch.ones_like(ssim), atol=1e-4, rtol=0)
    spearman, ssim = parameter_randomization(model, images, by_embedding, "independent")
    assert spearman[:2].min() > 0.999  # above what the map reads
    assert spearman[-1].mean() < 0.7
    assert ssim[-1].mean() < 0.7


def test_metric_averages_over_images() -> None:
    model, images = tiny_vit(), torch.randn(4, 3, 32, 32)
    metric = ParameterRandomization(model, by_embedding)
    metric.update(images)
    expected = parameter_randomization(model, images, by_embedding)
    assert metric.parts == PARTS
    torch.testing.assert_close(metric.compute()["spearman"], expected.spearman.mean(1).float())
    torch.testing.assert_close(metric.compute()["ssim"], expected.ssim.mean(1).float())


def test_rank_correlation_by_hand() -> None:
    one = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    other = torch.tensor([[[1.0, 2.0], [4.0, 3.0]]])  # one swap among four: 1 - 6 * 2 / (4 * 15)
    assert similarity(one, other, (16, 16)).spearman.tolist() == [pytest.approx(0.8, abs=1e-4)]
    assert similarity(one, one**3, (16, 16)).spearman.tolist() == [pytest.approx(1, abs=1e-4)]
    assert similarity(one, -one, (16, 16)).spearman.tolist() == [pytest.approx(-1, abs=1e-4)]


def test_a_constant_map_correlates_with_nothing() -> None:
    pair = similarity(random_heatmaps(2), torch.ones(2, 5, 6), (40, 48))
    assert pair.spearman.tolist() == [0, 0]
    assert pair.ssim.isfinite().all()


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="1 of 2 heatmaps hold NaN"):
        similarity(torch.rand(2, 4, 4), torch.tensor([[[1.0]], [[torch.nan]]]).expand(2, 4, 4), (32, 32))
    with pytest.raises(InputError, match="one shape"):
        similarity(torch.rand(2, 4, 4), torch.rand(2, 4, 5), (32, 32))
    with pytest.raises(InputError, match="image_size must be at least 11 pixels a side for SSIM, found"):
        similarity(torch.rand(2, 4, 4), torch.rand(2, 4, 4), (8, 32))
    with pytest.raises(InputError, match="'cascading' or 'independent', found 'both'"):
        ParameterRandomization(tiny_vit(), by_image, mode="both")
    with pytest.raises(ModelError, match="no transformer blocks in Linear"):
        vit_parts(nn.Linear(2, 2))
