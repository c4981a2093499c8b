import numpy as np
import pytest

from agcam.errors import InputError
from agcam.visualization.overlay import overlay
from agcam.visualization.photograph import Style, draw_heat


def picture(height: int = 90, width: int = 140) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)


def heat(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).random(shape or (5, 7)).astype(np.float32)


@pytest.mark.parametrize("scale", [1.0, 1e-5, 300.0])
def test_heat_is_drawn_as_overlay_draws_it(scale: float) -> None:
    image = picture()
    (drawn,) = draw_heat(image, [heat() * scale], (0, 0, 140, 90), Style())
    assert np.abs(drawn.astype(int) - overlay(image, heat())).max() <= 1


def test_constant_and_signed_maps_are_drawn_as_overlay_draws_them() -> None:
    image = picture()
    for heatmap in (np.full((3, 3), 7, np.float32), heat(3, 3) - 0.5):
        (drawn,) = draw_heat(image, [heatmap], (0, 0, 140, 90), Style())
        assert np.abs(drawn.astype(int) - overlay(image, heatmap)).max() <= 1


def test_outside_of_what_the_model_saw_there_is_no_heat() -> None:
    image = picture()
    first, second = draw_heat(image, [heat(), 1 - heat()], (25, 5, 105, 85), Style(colormap="viridis"))
    outside = np.ones((90, 140), bool)
    outside[5:85, 25:105] = False
    assert np.array_equal(first[outside], second[outside])
    assert (first[~outside] != second[~outside]).mean() > 0.9
    grey = np.ptp(first[outside].astype(int), axis=1).mean()
    assert grey < 0.5 * np.ptp(image[outside].astype(int), axis=1).mean()


def test_style_changes_the_drawing() -> None:
    image, box = np.full((64, 64, 3), 100, np.uint8), (0, 0, 64, 64)
    plain, strong, lined, other = (
        next(draw_heat(image, [heat()], box, style))
        for style in (Style(), Style(alpha=1), Style(contour=0.5), Style(colormap="viridis"))
    )
    (none,) = draw_heat(image, [heat()], box, Style(alpha=0))
    assert (none == 100).all()
    assert np.abs(strong.astype(int) - 100).sum() > np.abs(plain.astype(int) - 100).sum()
    assert ((lined == 255).all(2) & ~(plain == 255).all(2)).sum() > 20
    assert not np.array_equal(plain, other)


@pytest.mark.parametrize(
    ("style", "said"),
    [
        (Style(colormap="rainbowish"), "--colormap 'rainbowish' is none of matplotlib's"),
        (Style(alpha=2), "--alpha must be between 0 and 1, found 2"),
        (Style(contour=1), "--contour must lie between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(style: Style, said: str) -> None:
    with pytest.raises(InputError, match=said):
        style.check()
