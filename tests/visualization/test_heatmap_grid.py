"""Heatmaps side by side, and what notebooks make of an explanation."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import agcam
from agcam.errors import InputError
from agcam.explainers.explanation import Explanation
from agcam.explainers.model_info import ModelInfo
from agcam.training.classifier import ViTClassifier
from agcam.visualization.heatmap_grid import heatmap_grid
from agcam.visualization.overlay import overlay
from explainers.small_models import random_images, small_model
from small_runs import classifier

GRAY = np.full((40, 60, 3), 128, np.uint8)
RAMP = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)


def texts(figure: object) -> str:
    return " ".join(text.get_text() for text in figure.texts)  # type: ignore[attr-defined]


def shown(figure: object) -> list[np.ndarray]:
    """The pictures in a figure, in the order in which they were drawn; the colour bar has none."""
    return [axes.images[0].get_array() for axes in figure.axes if axes.images]  # type: ignore[attr-defined]


def test_a_grid_says_which_scale_its_colours_have() -> None:
    maps = {"agcam": [RAMP], "rollout": [RAMP * 100 + 7]}
    own = heatmap_grid([GRAY], maps)
    assert np.array_equal(shown(own)[1], shown(own)[2])  # other units, same picture
    assert np.array_equal(shown(own)[1], overlay(GRAY, RAMP))
    assert "each map scaled to its own extremes" in texts(own)
    assert "coldest" in texts(own)
    common = heatmap_grid([GRAY], maps, scaling="common", units="votes")
    assert np.array_equal(shown(common)[1], overlay(GRAY, RAMP, limits=(0, 107)))
    assert "one scale for all maps, in votes" in texts(common)
    bar = common.axes[-1].get_xlim()
    assert bar == pytest.approx((0, 107))
    assert "1.1e+02" in texts(common)


def test_overlays_of_a_grid_have_the_images_own_resolution() -> None:
    large = np.zeros((300, 500, 3), np.uint8)
    figure = heatmap_grid([large, GRAY], {"agcam": [RAMP, RAMP]})
    assert [picture.shape[:2] for picture in shown(figure)] == [(300, 500), (40, 60)] * 2


def test_a_contour_surrounds_what_is_hotter() -> None:
    spot = np.zeros((4, 4), np.float32)
    spot[1, 1] = 3
    figure = heatmap_grid([GRAY], {"agcam": [spot]}, contour=0.5)
    (x, y) = figure.axes[1].collections[-1].get_paths()[0].vertices.T
    assert 14 < x.min() < x.max() < 30  # the second of four columns of 15 pixels, and the second of four rows of 10
    assert 9 < y.min() < y.max() < 20
    assert "the line is at 0.5 of the scale" in texts(figure)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"scaling": "log"}, "'own' or 'common'"), ({"contour": 1.5}, "between 0 and 1"), ({"images": []}, "1 heatmaps")],
)
def test_grids_refuse_what_makes_no_sense(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        heatmap_grid(**{"images": [GRAY], "maps": {"agcam": [RAMP]}} | arguments)  # type: ignore[arg-type]


def test_plots_show_images_as_they_were_before_they_were_normalised() -> None:
    model = classifier(class_names=["bird", "cat"], multilabel=False).eval()
    pixels = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3)).astype(np.uint8)
    config = model.input_config
    images = ((torch.from_numpy(pixels) / 255 - torch.tensor(config.mean)) / torch.tensor(config.std)).permute(
        0, 3, 1, 2
    )
    explanation = agcam.explain(model, images.float(), "all")
    figure = explanation.plot(images.float())
    for row in range(2):
        assert np.array_equal(shown(figure)[row], pixels[row])
        heatmap = explanation.heatmaps[row, 1].numpy()
        assert np.array_equal(shown(figure)[4 + row], overlay(pixels[row], heatmap))
    for word in ("bird", "cat", f"{explanation.logits.softmax(1)[0, 0]:.0%}"):
        assert word in texts(figure)
    # the pictures that the batch was made of, at their own resolution
    large = [Image.fromarray(pixels[0]).resize((320, 200)), np.zeros((77, 50, 3), np.uint8)]
    assert [p.shape[:2] for p in shown(explanation.plot(large))[:2]] == [(200, 320), (77, 50)]


def test_each_image_names_its_own_class_where_they_differ() -> None:
    explanation = agcam.explain(small_model(), random_images(), torch.tensor([3, 1]))
    figure = explanation.plot(random_images(), titles=["a.jpg", "b.jpg"])
    assert all(word in texts(figure) for word in ("class 3", "class 1", "a.jpg", "b.jpg", "heatmap"))


def test_the_most_probable_of_many_classes_are_plotted() -> None:
    logits = torch.arange(20.0).expand(1, -1)
    maps = torch.rand(1, 20, 4, 4)
    explanation = Explanation(logits, torch.arange(20)[None], maps, "agcam")
    figure = explanation.plot([GRAY])
    assert len(shown(figure)) == 1 + 8
    assert np.array_equal(shown(figure)[1], overlay(GRAY, maps[0, 19].numpy()))
    assert "the 8 most probable of 20 explained classes" in texts(figure)
    assert explanation._repr_html_().count("<img") == 8


def test_plots_refuse_images_of_another_batch() -> None:
    explanation = agcam.explain(small_model(), random_images())
    with pytest.raises(InputError, match="1 images for 2 explained ones"):
        explanation.plot(random_images()[:1])
    with pytest.raises(InputError, match=r"found \(40, 60\) uint8"):
        explanation.plot([GRAY[..., 0]] * 2)
    with pytest.raises(InputError, match="none of the heatmaps is finite"):
        Explanation(torch.zeros(1, 2), torch.zeros(1, 1).long(), torch.full((1, 1, 2, 2), torch.nan)).plot([GRAY])


@pytest.mark.parametrize(("kind", "head"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_plots_are_saved_for_papers_the_same_bytes_every_time(tmp_path: Path, kind: str, head: bytes) -> None:
    figure = agcam.explain(small_model(), random_images()).plot(random_images(), contour=0.5)
    dated = {"pdf": "CreationDate", "svg": "Date", "png": "Software"}[kind]
    for name in ("a", "b"):
        figure.savefig(tmp_path / f"{name}.{kind}", metadata={dated: None})
    written = [(tmp_path / f"{name}.{kind}").read_bytes() for name in ("a", "b")]
    assert written[0].startswith(head)
    assert written[0] == written[1]
    if kind == "pdf":
        assert b"/FontFile2" in written[0]  # TrueType, as journals want it; Type 3 is matplotlib's default
        assert b"/Type3" not in written[0]


def test_notebooks_show_a_figure_without_pyplot() -> None:
    figure = agcam.explain(small_model(), random_images()).plot(random_images())
    with Image.open(io.BytesIO(figure._repr_png_())) as image:  # what IPython looks for
        assert image.width > 300


def test_notebooks_show_an_explanation_as_a_table_of_harmless_text() -> None:
    hostile = "<script>alert(1)</script>"
    info = ModelInfo((hostile, "cat"), multilabel=True)
    explanation = Explanation(
        torch.tensor([[0.0, 4.0]] * 9), torch.tensor([[0, 1]] * 9), torch.rand(9, 2, 3, 5), "lrp", info
    )
    found = explanation._repr_html_()
    assert "<script" not in found
    assert "&lt;script&gt;alert(1)&lt;/script&gt; 50%" in found  # a sigmoid: 0 is a half
    assert "cat 98%" in found
    assert "lrp: 9 × 2 heatmaps of 3×5 patches · the first 8 of 9 images" in found
    assert len(re.findall(r"<tr>", found)) == 8
    assert found.count("data:image/png;base64,") == 16
    assert hostile not in repr(explanation)


def test_explanations_know_what_their_model_knows(tmp_path: Path) -> None:
    model = small_model()
    model.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    explanation = agcam.explain(model, random_images(), method="rollout")
    assert (explanation.method, explanation.model_info) == ("rollout", ModelInfo((), (0.5,) * 3, (0.25,) * 3))
    wrapped = torch.nn.DataParallel(ViTClassifier("vit_tiny_patch16_224", class_names=["a", "b"], multilabel=True))
    info = agcam.explain(wrapped.module, torch.zeros(1, 3, 224, 224)).model_info
    assert (info.class_names, info.multilabel) == (("a", "b"), True)
