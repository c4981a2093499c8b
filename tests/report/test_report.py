"""Reports are written of whatever runs, benchmarks and explained photographs leave; what is broken is named."""

import base64
import dataclasses
import json
import re
from pathlib import Path

import made_up
import numpy as np
import pytest
from PIL import Image

from agcam.callbacks.scoring import FIGURES
from agcam.cli.explain import main
from agcam.errors import DataError
from agcam.explainers.registry import methods
from agcam.io.explained_images import write_panel
from agcam.metrics.registry import metric_specs
from agcam.report import glossary as words
from agcam.report.encode import BUDGET, encode_map, encode_mask
from agcam.report.gallery import FRAMES
from agcam.report.model import Frame, Report
from agcam.report.page import embed, render
from agcam.report.write import open_report, write_report
from benchmark.small_benchmarks import write_checkpoint
from reading import page_data


def test_a_hundred_images_by_five_methods_stay_small(tmp_path: Path) -> None:
    names = ("agcam", "rollout", "lrp", "gradcam", "random")
    noise = [made_up.shown(i, methods=names, side=448, noise=True) for i in range(100)]  # the worst case for JPEG
    page = render(Report("benchmark", "", [], [Frame("x", None, noise)]), tmp_path / "report.html")
    assert len(page.encode()) < 15_000_000
    assert BUDGET * 4 / 3 < 14_000_000


def test_the_page_is_whole(tmp_path: Path) -> None:
    written = write_report(made_up.benchmark(tmp_path / "b", [made_up.shown(0)]))
    page = written.read_text("utf-8")
    assert written == tmp_path / "b" / "report.html"
    assert not re.search(r'(src|href)="(https?:|//)', page)
    assert "@import" not in page
    assert "url(" not in page
    assert " style=" not in page  # the policy would ignore it
    assert not re.search(r"\son\w+=", page.partition('id="data"')[0])
    assert not list(tmp_path.rglob(".*.part"))


def test_json_is_inert_inside_html() -> None:
    hostile = {"</script><!--": ["\u2028\u2029&amp;<b>", "\udcff"]}
    text = embed(hostile)
    assert not re.search(r"[<>&\u2028\u2029]", text)
    assert text.isascii()
    assert json.loads(text) == hostile


def test_pictures_heatmaps_and_objects_come_back(tmp_path: Path) -> None:
    shown = made_up.shown(0)
    found = page_data(write_report(made_up.benchmark(tmp_path, [shown])))
    picture, view = found["pictures"][0], found["images"][0]["frames"][0][0]
    assert (picture["w"], picture["h"], picture["pw"], picture["ph"]) == (64, 64, 64, 64)
    (tmp_path / "x.png").write_bytes(base64.b64decode(picture["src"].partition(",")[2]))
    assert np.abs(np.asarray(Image.open(tmp_path / "x.png")).astype(int) - shown.image).mean() < 3
    for packed, heatmap in zip(view["maps"], shown.heatmaps.values(), strict=True):
        values = np.frombuffer(base64.b64decode(packed[2]), "<u2").reshape(packed[:2]) / 65535
        scaled = (heatmap - heatmap.min()) / (heatmap.max() - heatmap.min())
        np.testing.assert_allclose(values, scaled, atol=1e-5)
    runs = found["masks"][view["mask"]]
    flat = np.repeat(np.arange(len(runs)) % 2, runs).astype(bool)
    assert shown.mask is not None
    assert np.array_equal(flat.reshape(64, 64), shown.mask)
    assert view["boxes"] == shown.boxes.tolist()
    assert found["fill"] == [255, 0, 0]


@pytest.mark.parametrize("pattern", ["empty", "full", "first", "last", "checkered"])
def test_masks_are_runs(pattern: str) -> None:
    mask = np.zeros((5, 7), bool)
    places = {"empty": [], "full": range(35), "first": [0], "last": [34], "checkered": range(0, 35, 2)}
    mask.flat[list(places[pattern])] = True
    runs = encode_mask(mask, (5, 7))
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs).astype(bool), mask.ravel())


def test_heatmaps_that_are_none_are_left_out() -> None:
    assert encode_map(np.array([[np.nan, 1.0]])) is None
    assert encode_map(np.array([[np.inf, 1.0]])) is None
    constant = encode_map(np.full((2, 2), 3.0))
    assert constant is not None
    assert set(base64.b64decode(constant[2])) == {0}


def test_peaks_are_on_the_object_or_not_or_nobody_knows(tmp_path: Path) -> None:
    one, other = made_up.shown(0), made_up.shown(1, hit=False)
    images = [
        one,
        other,
        dataclasses.replace(one, index=2, mask=None),
        dataclasses.replace(other, index=3, boxes=np.zeros((0, 4))),
        made_up.shown(4, objects=False),
        dataclasses.replace(one, index=5, heatmaps={"agcam": np.ones((8, 8), np.float32)}),
        dataclasses.replace(one, index=6, figures={"agcam": {"pointing_game": 0.0}}),  # what was measured counts
        dataclasses.replace(one, index=7, heatmaps={"agcam": np.full((8, 8), np.nan, np.float32)}),
    ]
    found = page_data(write_report(made_up.benchmark(tmp_path, images)))
    hits = [image["frames"][0][0]["hits"][0] for image in found["images"]]
    assert hits == [True, False, True, False, None, False, False, None]


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        ("pretrained: false", "Shapes}", ("trained from scratch", "Shapes")),
        ("pretrained: true", "CUB200, init_args: {root: /data/birds}}", ("from pretrained weights", "CUB200, birds")),
        (
            "pretrained: false, weights: /home/me/vit.safetensors",
            "VOC2012, init_args: {root: BCCD/, classes: [RBC]}}",
            ("from the weights vit.safetensors", "VOC2012, BCCD"),
        ),
    ],
)
def test_a_run_says_what_it_started_from_and_on_which_data(
    model: str, data: str, said: tuple[str, str], tmp_path: Path
) -> None:
    folder = made_up.run(tmp_path / "version_0", [[made_up.shown(0)]])
    config = (
        f"model: {{backbone: vit, {model}}}\ndata: {{class_path: agcam.data.{data}\nexplanation: {{methods: [agcam]}}\n"
    )
    (folder / "config.yaml").write_text(config)
    facts = {fact.label: fact.value for fact in open_report(folder).facts}
    assert (facts["Model"], facts["Weights"], facts["Data"]) == ("vit", *said)


def test_a_run_is_a_timeline(tmp_path: Path) -> None:
    epochs = [[made_up.shown(i, seed=i) for i in range(2)] for _ in range(3)]
    folder = made_up.run(tmp_path / "runs" / "birds" / "version_0", epochs)
    made_up.run(tmp_path / "runs" / "birds" / "version_1", epochs[:1])
    write_panel(folder / "explanations" / "test_epoch_002", epochs[0], {})
    (folder / "explanations" / "val_epoch_004").mkdir()  # still being written
    report = open_report(folder)
    assert [(frame.label, frame.epoch) for frame in report.frames] == [(f"epoch {e}", e) for e in range(1, 4)]
    assert report.title == "Where the model looks: birds, version 0"
    facts = {fact.label: fact.value.replace("\N{NO-BREAK SPACE}", " ") for fact in report.facts}
    assert facts["Epochs"] == "3"
    assert facts["Top-1 accuracy (right class), validation"] == "70.0 %"
    assert report.table is not None
    assert [label for label, _ in report.table.methods] == ["agcam", "random (control)"]
    assert [cell.text for cell in report.table.parts[0].lines[0].cells] == ["0.300", "0.100"]
    charts = {chart.title: chart for chart in report.charts}
    assert [line.label for line in charts["Loss"].lines] == ["training"]
    assert charts["Loss"].lines[0].y == pytest.approx([1.5, 1.4, 1.3])
    assert [line.label for line in charts["Overlap (IoU)"].lines] == ["agcam", "random"]
    assert len(open_report(tmp_path / "runs" / "birds").frames) == 1  # the latest version
    page = page_data(write_report(folder))
    assert len(page["images"]) == 2
    assert len(page["pictures"]) == 2  # the same images every epoch are kept once
    assert len(page["images"][0]["frames"]) == 3


def test_long_runs_are_thinned_and_say_so(tmp_path: Path) -> None:
    folder = made_up.run(tmp_path, [[made_up.shown(0, methods=("agcam",), side=16)] for _ in range(FRAMES + 5)])
    report = open_report(folder)
    assert len(report.frames) == FRAMES
    assert report.frames[0].epoch == 1
    assert report.frames[-1].epoch == FRAMES + 5
    assert f"{FRAMES} of {FRAMES + 5} epochs" in report.notes[0]


def test_a_run_of_which_little_is_left_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss\n0,1,0.5\n")
    report = open_report(tmp_path)
    assert report.frames == []
    assert "No epoch of this run has pictures" in report.empty
    assert report.empty in write_report(tmp_path).read_text("utf-8")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metrics.csv", "step,train/loss\n1,2\n"),
        ("metrics.csv", "epoch,train/loss\n1,much\n"),
        ("config.yaml", "a: [1"),
        ("explanations/val_epoch_001/panel.json", "{}"),
    ],
)
def test_a_broken_file_of_a_run_is_named(tmp_path: Path, file: str, content: str) -> None:
    folder = made_up.run(tmp_path, [[made_up.shown(0)]])
    (folder / file).write_text(content)
    with pytest.raises(DataError, match=re.escape(file)):
        open_report(folder)


def test_a_benchmark_without_pictures_says_why(tmp_path: Path) -> None:
    folder = made_up.benchmark(tmp_path, [made_up.shown(0)])
    (folder / "panel" / "panel.json").unlink()
    assert "kept no pictures" in open_report(folder).empty
    assert "kept no pictures" in write_report(folder).read_text("utf-8")


def test_links_are_relative_to_the_page(tmp_path: Path) -> None:
    folder = made_up.benchmark(tmp_path / "a b" / "100%", [made_up.shown(0)])
    page = write_report(folder, tmp_path / "elsewhere" / "my report.html")
    assert 'href="../a%20b/100%25/results.md"' in page.read_text("utf-8")


def test_the_command_writes_where_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made_up.benchmark(tmp_path / "b", [made_up.shown(0)])
    assert main(["report", str(folder), "-o", str(tmp_path / "out.html")]) == 0
    assert "out.html" in capsys.readouterr().out
    assert (tmp_path / "out.html").stat().st_size > 10_000


def test_the_command_speaks_to_scripts_and_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made_up.benchmark(tmp_path / "b", [made_up.shown(0)])
    assert main(["report", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(folder / "report.html")}
    assert main(["report", str(folder), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("what", ["missing", "empty", "output is a folder"])
def test_bad_input_is_one_clear_line(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    if what != "missing":
        folder.mkdir()
    options = ["-o", str(tmp_path)] if what == "output is a folder" else []
    assert main(["report", str(folder), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert {"missing": "no such folder", "empty": "results.json", "output is a folder": "name a file"}[what] in line


def explained(folder: Path, view: bool = True) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 60, 3)).astype(np.uint8)).save(folder / "cat.view.jpg")
    np.savez(folder / "cat.npz", heatmaps=rng.random((2, 4, 6)).astype(np.float32))
    classes = [{"class": name, "index": n, "probability": 0.8 - 0.7 * n} for n, name in enumerate(("cat", "dog"))]
    found = {"image": "photos/cat.jpg", "heatmaps": "cat.npz", "predicted": "cat", "classes": classes}
    found |= {"stem": "cat", "file": {"path": "~/photos/cat.jpg"}}
    settings = {"weights": "0" * 64, "--method": "agcam", "--top": 2, "input": {"resize": "squash", "crop_pct": 1.0}}
    run = {"started": "2026-11-26T12:00:00+00:00", "model": "vit_tiny", "weights": "/home/ann/cats.ckpt", "images": 1}
    run |= {"versions": {"agcam": "1", "torch": "2"}, "device": "cpu", "seconds": 75.2}
    record = {"schema": 2, "settings": settings, "runs": [run], "errors": [], "images": [found]}
    if view:
        found["view"] = "cat.view.jpg"
    (folder / "predictions.json").write_text(json.dumps(record if view else [found]))
    return folder


def test_explained_photographs_are_shown(tmp_path: Path) -> None:
    report = open_report(explained(tmp_path / "explained"))
    assert [(s.explained, s.predicted, s.probability) for s in report.frames[0].shown] == [
        ("cat", "cat", 0.8),
        ("dog", "cat", pytest.approx(0.1)),
    ]
    assert report.frames[0].shown[0].image.shape == (40, 60, 3)


def test_explained_photographs_say_how_they_were_made(tmp_path: Path) -> None:
    found = {fact.label: fact.value for fact in open_report(explained(tmp_path / "explained")).facts}
    assert found == {
        "Images": "1",
        "Run": "explained",
        "Model": "vit_tiny",
        "Weights": "cats.ckpt, SHA-256 000000000000…",
        "Method": "agcam",
        "Settings": "the 2 most probable classes",
        "Date": "2026-11-26",
        "Versions": "agcam 1, torch 2",
        "Device": "cpu",
        "Cost": "1 min 15 s for 1 image",
    }


def test_the_images_command_leaves_what_the_report_needs(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model.ckpt")
    Image.fromarray(np.full((500, 600, 3), 90, np.uint8)).save(tmp_path / "grey.png")
    known = ["--checkpoint", checkpoint, "--input", tmp_path / "grey.png", "--output", tmp_path / "out", "--top", 2]
    assert main(["images", "--device", "cpu", *map(str, known)]) == 0
    assert main(["report", str(tmp_path / "out")]) == 0
    found = page_data(tmp_path / "out" / "report.html")
    assert len(found["images"][0]["frames"][0]) == 2
    assert max(found["pictures"][0][side] for side in "wh") <= 448
    view = found["images"][0]["frames"][0][0]
    assert view["predicted"] == view["explained"]


@pytest.mark.parametrize("damage", ["older", "view", "heatmaps", "json"])
def test_broken_explanations_are_named(tmp_path: Path, damage: str) -> None:
    folder = explained(tmp_path / "explained", view=damage != "older")
    file = {"view": "cat.view.jpg", "heatmaps": "cat.npz"}.get(damage, "predictions.json")
    if damage != "older":
        (folder / file).write_text("broken")
    with pytest.raises(DataError, match=re.escape(file)):
        open_report(folder)


def test_everything_measured_has_words() -> None:
    for spec in metric_specs().values():
        assert spec.help
        for value in spec.values:
            word = words.value(value.name)
            assert (word.label, word.help, word.higher_is_better) == (value.label, value.help, value.higher_is_better)
            assert word.label
            assert word.help
        for curve in spec.curves:
            assert words.curve(curve.name).help
    assert all(words.value(f"val/loc/{name}").help for name in FIGURES)
    assert all(words.method(name) for name in methods())
    assert words.method("rollout").endswith("It does not depend on the class.")
    assert words.method("os:system") == ""
    assert words.method("agcam:feature_map=softmax").endswith("Here with feature_map=softmax.")
    assert words.value("val/new_thing").label == "val new thing"
