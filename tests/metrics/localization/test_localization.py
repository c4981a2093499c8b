"""Localization: parity with the paper's published code, and hand-made cases of the corrected protocol."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from agcam.metrics import Localization
from agcam.metrics.localization.localization import score

GOLDEN = Path(__file__).parents[2] / "golden" / "localization.safetensors"


@pytest.mark.parametrize(("column", "threshold"), [(0, 0.3), (1, 0.5), (2, 0.7)])
def test_leem2024_matches_the_golden_figures(column: int, threshold: float) -> None:
    golden = load_file(GOLDEN)
    counts = golden["num_boxes"].tolist()
    boxes = [entry[:n] for entry, n in zip(golden["boxes_xyxy"], counts, strict=True)]
    figures, counted = score(golden["heatmap"], boxes, None, (224, 224), None, threshold, "leem2024")
    expected = golden["metrics"][:, column].double()
    assert len(figures) == 64
    assert counted.all()
    torch.testing.assert_close(figures, expected, rtol=1e-5, atol=0)

    metric = Localization(threshold, "leem2024")
    metric.update(golden["heatmap"], boxes=boxes, image_size=(224, 224))
    torch.testing.assert_close(metric.compute()["iou"].double(), expected[:, 1].mean(), rtol=1e-5, atol=0)


def corner_map() -> torch.Tensor:
    """8 × 8: the 4 × 4 corner is hot."""
    heatmap = torch.zeros(1, 8, 8)
    heatmap[0, :4, :4] = 1
    return heatmap


def test_corrected_masks_by_hand() -> None:
    # 16 found, 24 true, 16 common of 64 pixels
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[0, :4, :6] = True
    metric = Localization()
    metric.update(corner_map(), masks=masks)
    found = {key: float(value) for key, value in metric.compute().items()}
    assert found == pytest.approx(
        {"pixel_accuracy": 56 / 64, "iou": 16 / 24, "dice": 32 / 40, "precision": 1, "recall": 16 / 24, "count": 1}
    )


def test_corrected_boxes_by_hand() -> None:
    # the map is an L whose box is the 4 × 4 corner; the object's two boxes overlap: 16 + 16 - 8 = 24 pixels
    heatmap = corner_map()
    heatmap[0, 1:4, 1:4] = 0
    boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 0.0, 6.0, 4.0]])]
    metric = Localization()
    metric.update(heatmap, boxes=boxes, image_size=(8, 8))
    found = {key: float(value) for key, value in metric.compute().items()}
    assert found == pytest.approx(
        {"pixel_accuracy": 56 / 64, "iou": 16 / 24, "dice": 32 / 40, "precision": 1, "recall": 16 / 24, "count": 1}
    )


def test_ignored_pixels_count_nowhere() -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[0, :4, :6] = True
    ignore = torch.zeros_like(masks)
    ignore[0, :4, 4:] = True
    metric = Localization()
    metric.update(corner_map(), masks=masks, ignore=ignore)
    assert float(metric.compute()["iou"]) == 1
    assert float(metric.compute()["pixel_accuracy"]) == 1


def test_a_constant_map_predicts_nothing() -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[0, :4] = True
    for heatmap in (torch.zeros(1, 2, 2), torch.full((1, 2, 2), 3.7)):
        metric = Localization()
        metric.update(heatmap, masks=masks)
        found = metric.compute()
        assert float(found["iou"]) == float(found["recall"]) == float(found["precision"]) == 0
        assert float(found["pixel_accuracy"]) == 0.5


def test_images_without_an_object_are_left_out() -> None:
    metric = Localization()
    metric.update(
        corner_map().expand(2, 8, 8), boxes=[torch.zeros(0, 4), torch.tensor([[0.0, 0, 4, 4]])], image_size=(8, 8)
    )
    assert int(metric.compute()["count"]) == 1
    assert float(metric.compute()["iou"]) == 1
