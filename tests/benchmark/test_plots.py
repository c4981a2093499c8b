from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from PIL import Image

from agcam.benchmark import plots
from agcam.benchmark import softmax_vs_sigmoid as peaks
from agcam.benchmark.results import CurveInfo, Estimate, Results, Row, describe_curves
from agcam.errors import InputError
from agcam.metrics.registry import metric_specs
from agcam.visualization.figures import COLORS, FONT, fit
from explainers.small_models import random_images, small_model

X = [0.0, 0.25, 0.5, 0.75, 1.0]
PAIRS = [("lerf", "morf"), ("insertion", "deletion"), ("positive", "negative"), ("road/lerf", "road/morf")]
CURVES = [*(curve for pair in PAIRS for curve in pair), "iou_sweep", "box_accuracy"]
HOSTILE = [
    "$\\alpha_{",
    "_hidden",
    "x^2_$y$",
    "a\nb\t\x00c",
    "\udc80 surrogate",
    "鳥 عربى 🐦",
    "agcam:" + ",".join(f"option_{n}=value" for n in range(300)),
    "W" * 500,
    " ",
]


def row(method: str, height: float = 0.8, control: bool = False) -> Row:
    return Row(method, control, curves={curve: [height * (1 - x) for x in X] for curve in CURVES})


KNOWN = {name: replace(info, x=X) for name, info in describe_curves(list(metric_specs().values())).items()}


def results(rows: Sequence[Row], curves: Sequence[str] = CURVES) -> Results:
    axes: dict[str, CurveInfo] = {curve: KNOWN[curve] for curve in curves}
    return Results(list(rows), {}, axes, {}, 10, 10, Estimate(0.5, 0.4, 0.6, 10), {})


def failed(method: str) -> Row:
    return Row(method, False, failed="it has no class token")


def check(path: Path, sides: tuple[float, float]) -> tuple[float, float]:
    """That all files of a figure, and no others, are there and whole; the PNG's width and height in inches."""
    assert sorted(p.name for p in path.parent.iterdir()) == [f"{path.name}.{kind}" for kind in ("pdf", "png", "svg")]
    pdf = path.with_name(f"{path.name}.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert ElementTree.parse(path.with_name(f"{path.name}.svg")).getroot().tag.endswith("svg")
    with Image.open(path.with_name(f"{path.name}.png")) as image:
        image.load()
        assert image.info["dpi"][0] == pytest.approx(150, abs=0.1)
        assert np.ptp(np.asarray(image.convert("L"))) > 200
        inches = image.width / 150, image.height / 150
    assert 0.7 * sides[0] < inches[0] < 1.3 * sides[0]
    assert 0.7 * sides[1] < inches[1] < 1.3 * sides[1]
    return inches


def drawn_in(color: str, image: np.ndarray) -> bool:
    return bool((image == np.array(list(bytes.fromhex(color[1:])))).all(2).sum() > 50)


def png(path: Path) -> np.ndarray:
    with Image.open(path.with_name(f"{path.name}.png")) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("pairs", [PAIRS, PAIRS[:1]])
def test_perturbation_curves_take_a_column_a_pair(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    drawn = results([row("agcam"), row("random", 0.4, control=True)], [curve for pair in pairs for curve in pair])
    assert plots.perturbation_curves(drawn, tmp_path / "new" / "curves.v1")
    check(tmp_path / "new" / "curves.v1", (2.5 * len(pairs) + 1.6, 5.0))


@pytest.mark.parametrize("curves", [["iou_sweep", "box_accuracy"], ["box_accuracy"]])
def test_threshold_sweeps_take_a_panel_each(tmp_path: Path, curves: list[str]) -> None:
    assert plots.threshold_sweep(results([row("agcam"), row("random", 0.4, control=True)], curves), tmp_path / "sweep")
    check(tmp_path / "sweep", (3.4 * len(curves) + 1.6, 3.2))


@pytest.mark.parametrize(
    "nothing",
    [results([]), results([row("agcam")], []), results([failed("agcam")]), results([Row("agcam", False)])],
    ids=["no methods", "no curves", "all failed", "none measured"],
)
def test_nothing_to_draw_leaves_no_file(tmp_path: Path, nothing: Results) -> None:
    assert not plots.perturbation_curves(nothing, tmp_path / "curves")
    assert not plots.threshold_sweep(nothing, tmp_path / "sweep")
    assert not list(tmp_path.iterdir())


def test_half_a_pair_is_not_drawn(tmp_path: Path) -> None:
    half = Row("agcam", False, curves=dict.fromkeys(("lerf", "deletion"), X))
    assert not plots.perturbation_curves(results([half]), tmp_path / "curves")


def test_failed_methods_are_left_out(tmp_path: Path) -> None:
    kept = [row("agcam"), row("lrp", 0.5)]
    for name, rows in (("kept", kept), ("failed", [*kept, failed("last")]), ("nan", [*kept, row("last", math.nan)])):
        assert plots.threshold_sweep(results(rows), tmp_path / name)
    assert (png(tmp_path / "failed") == png(tmp_path / "kept")).all()
    assert (png(tmp_path / "nan") == png(tmp_path / "kept")).all()


def test_methods_keep_their_colours_where_others_failed(tmp_path: Path) -> None:
    assert plots.threshold_sweep(results([failed("agcam"), row("lrp", 0.5)]), tmp_path / "sweep")
    assert not drawn_in(COLORS[0], png(tmp_path / "sweep"))
    assert drawn_in(COLORS[1], png(tmp_path / "sweep"))


def test_both_curves_of_a_pair_are_inside_their_common_scale(tmp_path: Path) -> None:
    for name, low, high in (("rising", 0.1, 0.9), ("falling", 0.9, 0.1)):
        flat = {"lerf": [low] * 5, "morf": [high] * 5}
        assert plots.perturbation_curves(results([Row("agcam", False, curves=flat)]), tmp_path / name)
        assert drawn_in(COLORS[0], png(tmp_path / name)[:370, :370])
        assert drawn_in(COLORS[0], png(tmp_path / name)[370:, :370])


def test_gaps_of_a_curve_are_drawn_as_gaps(tmp_path: Path) -> None:
    # results.json writes NaN as null
    gap: list = [0.1, None, math.nan, 0.4, 0.5]
    assert plots.threshold_sweep(results([Row("agcam", False, curves={"iou_sweep": gap})]), tmp_path / "sweep")
    check(tmp_path / "sweep", (5.0, 3.2))


@pytest.mark.filterwarnings("error")
def test_names_are_shown_as_they_are_and_take_no_more_than_their_place(tmp_path: Path) -> None:
    drawn = results([row(name) for name in HOSTILE])
    assert plots.perturbation_curves(drawn, tmp_path / "a" / "$x_{")
    check(tmp_path / "a" / "$x_{", (10 + 3, 5.0))
    image = np.full((20, 30, 3), 90, np.uint8)
    maps = {name: [np.eye(3)] * len(HOSTILE) for name in HOSTILE}
    assert plots.grid([image] * len(HOSTILE), HOSTILE, maps, tmp_path / "b" / "grid")
    check(tmp_path / "b" / "grid", (0.94 * 10 + 1.1, 0.94 * 9 + 0.7))


@pytest.mark.parametrize("name", [*HOSTILE, "agcam:feature_map=softmax,gradient=full"])
@pytest.mark.parametrize(("width", "lines"), [(0.9, 4), (2.4, 1)])
def test_fitted_text_fits(name: str, width: float, lines: int) -> None:
    fitted = fit(name, width, 7, lines).split("\n")
    font = FontProperties(family=FONT, size=7)
    assert len(fitted) <= lines
    assert all(text_to_path.get_text_width_height_descent(t, font, ismath=False)[0] <= 72 * width for t in fitted)


def test_text_breaks_where_labels_are_joined() -> None:
    assert fit("agcam:feature_map=softmax", 0.9, 7, 4) == "agcam:\nfeature_map=\nsoftmax"
    assert fit("agcam:gradient=full", 0.9, 7, 4) == "agcam:\ngradient=full"
    assert fit("agcam:gradient=full", 0.9, 7, 1) == "agcam:…"
    assert fit("a $b_c$", 0.9, 7, 1) == "a $b_c$"
    assert fit("鳥\x00", 0.9, 7, 1) == "\N{REPLACEMENT CHARACTER}" * 2


def test_grids_take_images_of_any_size_and_show_missing_maps(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (*size, 3)).astype(np.uint8) for size in ((20, 30), (90, 10))]
    maps = {
        "agcam": rng.random((2, 4, 4), dtype=np.float32),
        "lrp": [None, rng.random((4, 4))],
        "rollout": [np.full((4, 4), np.nan), np.zeros((4, 4))],
    }
    assert plots.grid(images, ["a.jpg", "b.jpg"], maps, tmp_path / "some" / "grid")
    check(tmp_path / "some" / "grid", (0.94 * 4 + 0.4, 0.94 * 2 + 0.4))
    maps["empty"] = [None, np.full((4, 4), np.inf)]
    assert plots.grid(images, ["a.jpg", "b.jpg"], maps, tmp_path / "more" / "grid")
    assert (png(tmp_path / "more" / "grid") == png(tmp_path / "some" / "grid")).all()


def test_a_grid_without_a_map_is_not_drawn(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    assert not plots.grid([], [], {}, tmp_path / "grid")
    assert not plots.grid([], [], {"agcam": []}, tmp_path / "grid")
    assert not plots.grid([image], ["a"], {"agcam": [None], "lrp": [np.full((2, 2), np.nan)]}, tmp_path / "grid")
    assert not list(tmp_path.iterdir())


def test_peaks_are_drawn_for_each_image_and_the_model_is_left_as_found(tmp_path: Path) -> None:
    model = small_model().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pixels = [np.full((32, 32, 3), 90, np.uint8)] * 2
    assert peaks.peaks(model, random_images(), pixels, tmp_path / "peaks", targets=torch.tensor([1, 3]))
    check(tmp_path / "peaks", (8.2, 4.2))
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.filterwarnings("error:::agcam")
def test_maps_without_mass_are_told_of(tmp_path: Path) -> None:
    model = small_model()
    torch.nn.init.zeros_(model.head.weight)
    assert peaks.peaks(model, random_images(batch=1), [np.zeros((32, 32, 3), np.uint8)], tmp_path / "peaks")
    check(tmp_path / "peaks", (8.2, 2.3))


def test_no_images_have_no_peaks(tmp_path: Path) -> None:
    assert not peaks.peaks(small_model(), random_images(batch=0), [], tmp_path / "peaks")
    assert not list(tmp_path.iterdir())


def test_images_that_cannot_be_explained_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="NaN"):
        peaks.peaks(small_model(), random_images() * math.nan, [np.zeros((32, 32, 3), np.uint8)] * 2, tmp_path / "p")
    assert not list(tmp_path.iterdir())
