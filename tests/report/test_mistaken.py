"""A card of a mistaken image has the heatmap and the probability of what the model said beside those of the label."""

from dataclasses import replace
from pathlib import Path

import made_up
import numpy as np
from browsing import Visit

from agcam.io.explained_images import Answer, ExplainedImage, OtherClass, false_alarms, read_panel, write_panel
from agcam.report.write import write_report
from agcam.tracking.drawing import Drawing
from reading import page_data


def mistaken() -> ExplainedImage:
    """A cat at 12 %, taken for a dog at 81 %; the dog's heat is elsewhere."""
    shown = made_up.shown(0, predicted="dog")
    maps = {method: np.ascontiguousarray(heatmap[::-1, ::-1]) for method, heatmap in shown.heatmaps.items()}
    return replace(shown, probability=0.12, shares=(0.12,), other=OtherClass("dog", 0.81, maps))


def several() -> ExplainedImage:
    """A cat and a person, of which the person is missed and a bottle is seen that is not there."""
    shown = made_up.shown(1, truth=("cat", "person"), predicted="cat")
    return replace(shown, probability=0.9, shares=(0.9, 0.2), also=(Answer("bottle", 0.77),), multilabel=True)


def test_a_panel_keeps_what_the_model_said(tmp_path: Path) -> None:
    write_panel(tmp_path / "panel", [mistaken(), several()], {})
    (wrong, many), _ = read_panel(tmp_path / "panel")
    assert wrong.other is not None
    assert (wrong.other.name, wrong.other.probability, wrong.predicted_probability) == ("dog", 0.81, 0.81)
    assert np.array_equal(wrong.other.heatmaps["agcam"], wrong.heatmaps["agcam"][::-1, ::-1])
    assert (wrong.verdict, many.verdict) == ("wrong", "right")
    assert (many.shares, many.also, many.multilabel) == ((0.9, 0.2), (Answer("bottle", 0.77),), True)


def test_false_alarms_are_classes_above_one_half_that_are_not_there() -> None:
    found = false_alarms([0.9, 0.6, 0.2, 0.8], [0], "abcd".__getitem__)
    assert found == (Answer("d", 0.8), Answer("b", 0.6))


def test_what_trackers_get_says_label_prediction_probabilities_and_verdict() -> None:
    wrong, many = Drawing(mistaken()), Drawing(several())
    assert wrong.caption.startswith(
        "images/00000.jpg · label: cat 12% · prediction: dog 81% · ✗ wrong · heatmap of cat | dog"
    )
    assert "label: cat 90%, person 20% · prediction: cat 90%, bottle 77% · ✓ right" in many.caption
    assert len(wrong.overlays) == 2
    assert (wrong.overlays[0] != wrong.overlays[1]).any()
    assert wrong.boxed.shape[1] == 2 * wrong.image.shape[1] + 2
    assert len(many.overlays) == 1
    # words stand beneath: ink on white, and red or green for the verdict
    words = wrong.picture[wrong.image.shape[0] :]
    assert (words.min(2) < 60).any()
    assert ((words[..., 0] > 150) & (words[..., 1] < 80)).any()


def test_a_mistaken_card_shows_both_heatmaps(tmp_path: Path, visit: Visit) -> None:
    written = write_report(made_up.benchmark(tmp_path, [mistaken(), made_up.shown(2), several()]))
    views = [image["frames"][0][0] for image in page_data(written)["images"]]
    assert (views[0]["other"]["explained"], views[0]["other"]["p"], views[1]["other"]) == ("dog", 0.81, None)
    page = visit(written)
    page.until(lambda: "Heatmaps of cat" in page.text(".caption"))
    assert "Shows cat 12 %" in page.text(".caption")
    assert "Model says dog 81 %" in page.text(".caption")
    assert page.drawing(".card canvas") != page.drawing(".card canvas + canvas")
    assert len(page.all(".card canvas")) == 4
    page.one(".card .open").click()
    assert page.drawing("#hot") != page.drawing("#other")
    assert "dog 81 %" in page.text("#detail .stage:nth-child(3) figcaption")


def test_a_card_names_all_classes_of_its_image(tmp_path: Path, visit: Visit) -> None:
    page = visit(write_report(made_up.benchmark(tmp_path, [several()])))
    page.until(lambda: "Shows cat 90 %, person 20 %" in page.text(".caption"))
    assert "Model says cat 90 %, bottle 77 %" in page.text(".caption")
