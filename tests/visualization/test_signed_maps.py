"""Where a map has negative values zero is neutral, in pictures, on the report's canvas and for thresholds."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch

import agcam
from agcam.metrics import Localization, MaxBoxAccV2, PxAP, Segmentation
from agcam.metrics.maps import evidence
from agcam.report.encode import encode_map
from agcam.visualization.heatmap_grid import heatmap_grid
from agcam.visualization.overlay import overlay, resize_map
from explainers.small_models import random_images, small_model

GREY = np.full((40, 40, 3), 128, np.uint8)
SIGNED = np.array([[-1.0, 0.0], [0.0, 2.0]], np.float32).repeat(20, 0).repeat(20, 1)


def test_zero_shows_the_image_red_speaks_for_and_blue_against() -> None:
    red, _, blue = overlay(GREY, SIGNED)[30, 30].astype(int)
    assert red > blue + 40
    red, _, blue = overlay(GREY, SIGNED)[10, 10].astype(int)
    assert blue > red + 20
    assert overlay(GREY, SIGNED)[30, 10].tolist() == pytest.approx([128] * 3, abs=1)
    assert overlay(GREY, SIGNED * 7)[10, 10].tolist() == overlay(GREY, SIGNED)[10, 10].tolist()
    flipped = overlay(GREY, -SIGNED)
    assert flipped[30, 30, 2] > flipped[30, 30, 0]


def test_the_same_scale_for_both_directions() -> None:
    scaled = resize_map(SIGNED, (40, 40))
    assert (scaled[10, 10], scaled[30, 10], scaled[30, 30]) == (0.25, 0.5, 1.0)
    common = resize_map(SIGNED, (40, 40), (-4.0, 1.0))
    assert (common[10, 10], common[30, 10], common[30, 30]) == (0.375, 0.5, 0.75)
    assert resize_map(SIGNED + 1, (40, 40))[10, 10] == 0  # without negative values by its extremes, as ever


def test_figures_say_what_the_colors_mean() -> None:
    def words(maps: dict[str, list[np.ndarray]], **options: object) -> str:
        figure = heatmap_grid([GREY], maps, **options)  # type: ignore[arg-type]
        assert figure is not None
        return " ".join(text.get_text().replace("\n", " ") for text in figure.texts)

    assert "red speaks for the class" in words({"input_x_gradient": [SIGNED]})
    assert "against" in words({"input_x_gradient": [SIGNED]})
    assert "red speaks" not in words({"agcam": [np.abs(SIGNED)]})
    assert "hottest" in words({"agcam": [np.abs(SIGNED)], "input_x_gradient": [SIGNED]})
    assert "-2 2" in words({"input_x_gradient": [SIGNED]}, scaling="common", units="logits")


def test_the_reports_map_has_zero_in_the_middle() -> None:
    packed = encode_map(SIGNED)
    assert packed is not None
    values = np.frombuffer(base64.b64decode(packed[2]), "<u2").reshape(40, 40) / 65535
    assert packed[3] == 1
    assert [values[10, 10], values[30, 10], values[30, 30]] == pytest.approx([0.25, 0.5, 1.0], abs=1e-4)
    plain = encode_map(np.abs(SIGNED))
    assert plain is not None
    assert plain[3] == 0


def test_thresholds_ask_for_what_speaks_for_the_class() -> None:
    model, images = small_model(), random_images()
    maps = agcam.explain(model, images, method="input_x_gradient").heatmaps[:, 0]
    assert (maps < 0).any()
    hot = evidence(maps) > 0.2
    assert not (hot & (maps <= 0)).any()
    assert hot.any()
    expected = torch.where(maps > 0, maps / maps.amax((1, 2), keepdim=True), 0.0)
    torch.testing.assert_close(evidence(maps), expected)


@pytest.mark.parametrize("metric", [Localization, PxAP, Segmentation, MaxBoxAccV2])
def test_what_speaks_against_the_class_does_not_change_an_overlap(metric: type) -> None:
    maps = torch.randn(6, 8, 8, generator=torch.Generator().manual_seed(0)).repeat_interleave(4, 1)
    maps = maps.repeat_interleave(4, 2)
    masks = torch.zeros(6, 32, 32, dtype=torch.bool)
    masks[:, 8:20, 4:24] = True
    boxes = {"boxes": [torch.tensor([[4.0, 8.0, 24.0, 20.0]])] * 6, "image_size": (32, 32)}
    truth = boxes if metric is MaxBoxAccV2 else {"masks": masks}
    found = []
    for shown in (maps, maps.clamp_min(0), torch.where(maps < 0, 9 * maps, maps)):
        scores = metric()
        scores.update(shown, **truth)
        found.append(scores.compute())
    for name, value in found[0].items():
        for other in found[1:]:
            assert torch.equal(torch.as_tensor(other[name]), torch.as_tensor(value)), name


def test_the_published_protocol_scales_as_it_was_published() -> None:
    maps = torch.from_numpy(SIGNED)[None]
    masks = torch.zeros(1, 40, 40, dtype=torch.bool)
    masks[:, 20:, 20:] = True
    scores = {}
    for protocol in ("leem2024", "corrected"):
        metric = Localization(threshold=0.3, protocol=protocol)  # type: ignore[arg-type]
        metric.update(maps, masks=masks)
        scores[protocol] = float(metric.compute()["iou"])
    assert scores["corrected"] == 1
    assert scores["leem2024"] < 0.5  # zero is a third of the way from -1 to 2
