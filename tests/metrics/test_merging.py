"""Every metric is a sum over images: two halves, added up as processes do, equal the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torchmetrics import Metric

from agcam import InputError, metrics
from metric_cases import SIZE, random_boxes, random_heatmaps, random_masks, summed, tiny_vit

N = 7
MODEL = tiny_vit()
IMAGES = torch.randn(N, 3, 32, 32, generator=torch.Generator().manual_seed(1))
MAPS = random_heatmaps(N, grid=(4, 4))
LABELS = torch.arange(N) % 5
WIDE = random_heatmaps(N)
BOXES = random_boxes(N)
MASKS = random_masks(N)
IGNORE = random_masks(N, seed=5)
CORRECT = torch.arange(N) % 3 > 0


def box_batch(rows: slice) -> dict[str, Any]:
    return {"heatmaps": WIDE[rows], "boxes": BOXES[rows], "image_size": SIZE}


def mask_batch(rows: slice) -> dict[str, Any]:
    return {"heatmaps": WIDE[rows], "masks": MASKS[rows], "ignore": IGNORE[rows]}


def model_batch(rows: slice) -> dict[str, Any]:
    return {"images": IMAGES[rows], "heatmaps": MAPS[rows], "targets": LABELS[rows]}


def explain_by_embedding(model: Any, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.forward_features(images)[:, 1:, 0].unflatten(1, (4, 4))


Case = tuple[Callable[[], Metric], Callable[[slice], dict[str, Any]]]
CASES: dict[str, Case] = {
    "localization boxes": (metrics.Localization, box_batch),
    "localization masks": (metrics.Localization, mask_batch),
    "localization leem2024": (lambda: metrics.Localization(protocol="leem2024"), box_batch),
    "max box acc": (metrics.MaxBoxAcc, box_batch),
    "max box acc v2": (metrics.MaxBoxAccV2, box_batch),
    "gt-known loc": (metrics.GTKnownLoc, box_batch),
    "top-1 loc": (metrics.Top1Loc, lambda rows: box_batch(rows) | {"correct": CORRECT[rows]}),
    "pxap": (metrics.PxAP, mask_batch),
    "pointing game": (metrics.PointingGame, lambda rows: {"heatmaps": WIDE[rows], "masks": MASKS[rows]}),
    "energy pointing game": (metrics.EnergyPointingGame, mask_batch),
    "segmentation": (metrics.Segmentation, mask_batch),
    "abpc": (lambda: metrics.ABPC(MODEL), model_batch),
    "insertion deletion": (lambda: metrics.InsertionDeletion(MODEL, steps=5), model_batch),
    "positive negative": (
        lambda: metrics.PositiveNegative(MODEL),
        lambda rows: {"images": IMAGES[rows], "heatmaps": MAPS[rows], "labels": LABELS[rows]},
    ),
    "road": (lambda: metrics.ROAD(MODEL), model_batch),
    "parameter randomisation": (
        lambda: metrics.ParameterRandomization(MODEL, explain_by_embedding),
        lambda rows: {"images": IMAGES[rows]},
    ),
}


def figures(metric: Metric) -> dict[str, torch.Tensor]:
    found = metric.compute()
    return found if isinstance(found, dict) else {"value": found}


@pytest.mark.parametrize("name", CASES)
def test_states_of_halves_add_up_to_the_whole(name: str) -> None:
    make, batch = CASES[name]
    whole, first, second = make(), make(), make()
    whole.update(**batch(slice(None)))
    first.update(**batch(slice(0, 3)))
    second.update(**batch(slice(3, None)))
    expected, found = figures(whole), figures(summed(first, second))
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)
    assert int(expected.get("count", torch.tensor(N))) == N


@pytest.mark.parametrize("name", CASES)
def test_streaming_keeps_constant_memory(name: str) -> None:
    make, batch = CASES[name]
    metric = make()
    metric.update(**batch(slice(0, 2)))
    size = {key: getattr(metric, key).numel() for key in metric._defaults}
    metric.update(**batch(slice(2, None)))
    assert {key: getattr(metric, key).numel() for key in metric._defaults} == size


@pytest.mark.parametrize("name", CASES)
def test_nothing_scored_is_nan_and_an_empty_batch_adds_nothing(name: str) -> None:
    make, batch = CASES[name]
    metric = make()
    metric.update(**batch(slice(0, 0)))
    found = figures(metric)
    assert int(found.pop("count", torch.tensor(0))) == 0
    assert all(value.isnan().all() for value in found.values())


@pytest.mark.parametrize("name", [name for name in CASES if name != "parameter randomisation"])
def test_broken_heatmaps_are_counted_and_named_not_averaged(name: str) -> None:
    make, batch = CASES[name]
    arguments = batch(slice(None))
    arguments["heatmaps"] = arguments["heatmaps"].clone()
    arguments["heatmaps"][2, 0, 0] = torch.nan
    arguments["heatmaps"][5, 1, 1] = torch.inf
    metric = make()
    with pytest.raises(InputError, match=r"2 of 7 heatmaps .* \(rows 2, 5"):
        metric.update(**arguments)


@pytest.mark.parametrize("name", [name for name in CASES if name != "parameter randomisation"])
def test_heatmaps_of_another_shape_are_named(name: str) -> None:
    make, batch = CASES[name]
    arguments = batch(slice(None))
    arguments["heatmaps"] = arguments["heatmaps"][:, None]
    with pytest.raises(InputError, match=r"must be \(B, h, w\), found \(7, 1, "):
        make().update(**arguments)
