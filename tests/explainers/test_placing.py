"""Each patch lies on its own pixels, also where patches leave a margin of the image or reach beyond it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import agcam
from agcam.benchmark.measure import BenchmarkConfig, measure
from agcam.benchmark.methods import parse_methods
from agcam.callbacks.scoring import FIGURES, Objects, Scoring
from agcam.data.batch import Batch
from agcam.errors import InputError
from agcam.explainers.explanation import Explanation
from agcam.metrics import ABPC, Localization
from agcam.metrics.faithfulness.perturbation import rank_pixels
from agcam.metrics.maps import upsample
from agcam.metrics.registry import parse_metrics
from explainers.small_models import small_model

# image, patch grid, pixels that it covers: a margin of 14; padding of 14; padding across only; neither
CASES = [
    (62, {"img_size": 62, "patch_size": 16}, 3, 48),
    (50, {"img_size": 64, "patch_size": 16, "dynamic_img_size": True, "dynamic_img_pad": True}, 4, 64),
    (48, {"img_size": 48, "patch_size": 16}, 3, 48),
]
PATCH = torch.tensor([[16.0, 16.0, 32.0, 32.0]])
LAST = torch.tensor([[32.0, 32.0, 48.0, 48.0]])


def explained(size: int, options: dict[str, Any], method: str = "agcam") -> Explanation:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    return agcam.explain(small_model(**options), images, method=method)


def perfect(found: Explanation, patch: int = 1) -> Explanation:
    """The explanation with a map that is hot on one patch alone; (1, 1) lies at pixels 16 to 32."""
    maps = torch.zeros_like(found.heatmaps)
    maps[..., patch, patch] = 1
    return Explanation(found.logits, found.targets, maps, image_size=found.image_size, extent=found.extent)


def iou(maps: Tensor, size: int, box: Tensor = PATCH) -> float:
    left, top, right, bottom = box[0].int().tolist()
    masks = torch.zeros(len(maps), size, size, dtype=torch.bool)
    masks[:, top:bottom, left:right] = True
    metric = Localization()
    metric.update(maps, masks=masks)
    return float(metric.compute()["iou"])


@pytest.mark.parametrize(("size", "options", "grid", "covered"), CASES)
def test_an_explanation_knows_the_pixels_that_it_covers(size: int, options: Any, grid: int, covered: int) -> None:
    found = explained(size, options)
    assert found.heatmaps.shape == (2, 1, grid, grid)
    assert (found.image_size, found.extent) == ((size, size), (covered, covered))


def test_the_map_of_a_patch_lies_on_the_patch_whatever_the_images_size() -> None:
    fitting = torch.zeros(1, 4, 4)
    fitting[0, 1, 1] = 1
    expected = iou(fitting, 64)
    assert expected == pytest.approx(0.70, abs=0.02)
    for size, options, *_ in CASES[:2]:
        found = explained(size, options)
        assert iou(perfect(found).placed[:, 0], size) == pytest.approx(expected, abs=1e-6)
        last = perfect(found, 2)
        assert iou(last.placed[:, 0], size, LAST) >= expected - 1e-6
        assert iou(last.heatmaps[:, 0], size, LAST) < 0.3  # stretched over the whole image


def test_maps_at_image_size_are_those_of_the_covered_pixels() -> None:
    for size, options, _, covered in CASES:
        found = explained(size, options)
        large = found.upsample()
        assert large.shape == (2, 1, size, size)
        seen = min(size, covered)
        reference = torch.nn.functional.interpolate(
            found.heatmaps, size=(covered, covered), mode="bilinear", align_corners=False
        )
        torch.testing.assert_close(large[..., :seen, :seen], reference[..., :seen, :seen], rtol=1e-6, atol=1e-8)
        margin = large[:, 0, seen:, :]
        assert (margin == found.heatmaps[:, 0].amin((1, 2)).view(2, 1, 1)).all()
    assert torch.equal(large, upsample(found.heatmaps[:, 0], (48, 48))[:, None])  # a grid that fits: as ever
    assert found.placed is found.heatmaps
    assert found.upsample((20, 30)).shape == (2, 1, 20, 30)
    with pytest.raises(InputError, match="size must be height and width"):
        found.upsample((0, 3))
    with pytest.raises(InputError, match="found None"):
        Explanation(found.logits, found.targets, found.heatmaps).upsample()


def test_a_larger_picture_of_the_image_is_covered_in_the_same_places() -> None:
    found = perfect(explained(*CASES[0][:2]))
    rows = torch.nonzero(found.upsample((620, 620))[0, 0] > 0.5)
    assert rows.amin(0).tolist() == pytest.approx([160, 160], abs=40)
    assert rows.amax(0).tolist() == pytest.approx([320, 320], abs=40)


@pytest.mark.parametrize(("size", "options", "grid", "covered"), CASES[:2])
def test_pictures_glow_where_the_patch_is(size: int, options: Any, grid: int, covered: int) -> None:
    figure = perfect(explained(size, options)).plot([np.full((size, size, 3), 128, np.uint8)] * 2)
    pictures = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    picture = next(p for p in pictures if p.std() > 0).astype(int).sum(2)
    hot = np.argwhere(picture > (picture.min() + picture.max()) / 2)
    assert abs(hot.mean(0) - 23.5).max() < 1  # the middle of pixels 16 to 32


@pytest.mark.parametrize(("size", "options", "grid", "covered"), CASES[:2])
def test_perturbations_remove_the_pixels_of_the_patch_first(size: int, options: Any, grid: int, covered: int) -> None:
    most, _ = rank_pixels(perfect(explained(size, options)).placed[:, 0], (size, size))
    first = torch.nonzero(most[0] < 60)
    assert first.amin(0).tolist() >= [17, 17]
    assert first.amax(0).tolist() <= [31, 31]


def test_training_and_the_benchmark_score_placed_maps() -> None:
    size, options, *_ = CASES[0]
    found = perfect(explained(size, options))
    truth = torch.zeros(2, size, size, dtype=torch.bool)
    truth[:, 16:32, 16:32] = True
    objects = Objects(torch.ones(2, dtype=torch.bool), truth, None, None)
    figures = Scoring(0.5, "corrected").figures(found.heatmaps[:, 0], objects, torch.ones(2).bool(), found.extent)
    assert figures[:, FIGURES.index("iou")].tolist() == pytest.approx([iou(found.placed[:, 0], size)] * 2)

    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([1, 2])
    mask = truth * (1 + labels[:, None, None])
    batch = Batch(images, labels, [None] * 2, [None] * 2, mask, torch.arange(2), ["a", "b"])
    config = BenchmarkConfig(tuple(parse_methods(["agcam"])), tuple(parse_metrics(["localization", "abpc"])), True, 8)
    model = small_model(**options)
    rows = measure(model, False, batch, config).rows["agcam"]
    maps = agcam.explain(model, images, labels).placed[:, 0]
    assert rows["localization"][:, 1].mean() == pytest.approx(iou(maps, size), abs=1e-6)
    metric = ABPC(model)
    metric.update(images, maps, labels)
    assert metric.compute()["count"] == 2


@pytest.mark.parametrize("size", [62, 60, 50])
def test_pixel_attributions_are_summed_over_their_own_patches(size: int) -> None:
    options = dict(CASES[1][1]) if size == 50 else {"img_size": size, "patch_size": 16}
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    model = small_model(**options)
    found = agcam.explain(model, images, 1, method="input_x_gradient").heatmaps[:, 0]
    leaf = images.clone().requires_grad_()
    model(leaf)[:, 1].sum().backward()
    assert leaf.grad is not None
    pixels = (leaf.grad * images).sum(1)
    for y in range(found.shape[1]):
        for x in range(found.shape[2]):
            expected = pixels[:, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16].sum((1, 2))
            torch.testing.assert_close(found[:, y, x], expected, rtol=1e-3, atol=1e-5)


class Cropped(torch.nn.Module):
    """A model that makes images of another size before its ViT."""

    def __init__(self, margin: int) -> None:
        super().__init__()
        self.vit, self.margin = small_model(img_size=32, patch_size=8), margin

    def forward(self, images: Tensor) -> Tensor:
        side = images.shape[-1] - self.margin
        return self.vit(images[..., self.margin : side, self.margin : side])  # type: ignore[no-any-return]  # of any type


def test_a_model_that_changes_the_size_of_its_images_is_warned_of() -> None:
    images = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="makes 32×32 pixels of its images, 40×40"):
        assert agcam.explain(Cropped(4).eval(), images).extent == (40, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agcam.explain(Cropped(0).eval(), images[..., 4:36, 4:36])
