from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agcam.visualization import overlay as render


def test_overlay_keeps_the_images_resolution_and_glows_where_the_map_is_hot() -> None:
    image = np.full((90, 120, 3), 100, np.uint8)
    heatmap = np.zeros((3, 4), np.float32)
    heatmap[0, 0] = 5.0
    shown = render.overlay(image, heatmap)
    assert shown.shape == image.shape
    assert shown.dtype == np.uint8
    assert shown[5, 5].sum() > shown[-5, -5].sum() + 100


def test_overlay_depends_on_the_maps_shape_not_on_its_units() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    heatmap = np.random.default_rng(1).random((5, 5)).astype(np.float32)
    assert np.abs(render.overlay(image, heatmap).astype(int) - render.overlay(image, heatmap * 1e-6)).max() <= 1


def test_a_constant_map_is_cold_everywhere() -> None:
    assert not render.resize_map(np.full((3, 3), 7.0), (9, 9)).any()


def test_boxes_are_drawn_on_their_edges_of_a_copy() -> None:
    image = np.zeros((30, 30, 3), np.uint8)
    drawn = render.draw_boxes(image, np.array([[5, 6, 20, 25]]))
    assert (drawn[6, 5:20] == 255).all()
    assert (drawn[6:25, 19] == 255).all()
    assert not drawn[10:20, 10:15].any()
    assert not image.any()


@pytest.mark.parametrize(("count", "shape"), [(1, (14, 14, 3)), (5, (26, 50, 3))])
def test_contact_sheets_fill_rows(count: int, shape: tuple[int, ...]) -> None:
    assert render.contact_sheet([np.zeros((10, 10, 3), np.uint8)] * count, columns=4, gap=2).shape == shape


def test_a_png_appears_only_when_whole(tmp_path: Path) -> None:
    render.save_png(np.zeros((4, 5, 3), np.uint8), tmp_path / "deep" / "x.png")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["x.png"]
    with Image.open(tmp_path / "deep" / "x.png") as image:
        assert image.size == (5, 4)


def test_overlays_with_the_same_limits_share_one_scale() -> None:
    image = np.full((40, 40, 3), 100, np.uint8)
    cool, hot = np.linspace(0, 1, 16).reshape(4, 4), np.linspace(0, 4, 16).reshape(4, 4)
    assert np.array_equal(render.overlay(image, cool), render.overlay(image, hot))
    assert render.overlay(image, cool, limits=(0, 4)).max() < render.overlay(image, hot, limits=(0, 4)).max()
    assert render.resize_map(hot, (8, 8), limits=(1, 2)).min() == 0
    assert render.resize_map(hot, (8, 8), limits=(1, 2)).max() == 1


def test_outlines_follow_an_object_and_its_hole_on_a_copy() -> None:
    image, mask = np.full((30, 30, 3), 90, np.uint8), np.zeros((30, 30), bool)
    mask[5:25, 5:25] = True
    mask[12:18, 12:18] = False
    drawn = render.draw_outlines(image, mask)
    assert (drawn[5, 5:25] == 255).all()
    assert (drawn[5:25, 24] == 255).all()
    assert (drawn[11, 13:17] == 255).all()
    assert (drawn[8, 8] == 90).all()
    assert (drawn[15, 15] == 90).all()
    assert (image == 90).all()
