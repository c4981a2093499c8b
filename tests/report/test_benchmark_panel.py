"""The panel of a benchmark shows what was measured, heatmap by heatmap."""

import csv
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from agcam.benchmark import run
from agcam.cli.explain import main
from agcam.data.shapes import CLASSES, ShapesDataset
from agcam.io.explained_images import ExplainedImage, read_panel
from benchmark.small_benchmarks import write_checkpoint

COUNT = 13
METRICS = ["localization", "pointing_game", "abpc", "insertion_deletion"]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of images with several classes, in two shards of batches of which some are not full."""
    folder = tmp_path_factory.mktemp("panel")
    checkpoint = write_checkpoint(folder / "model.ckpt", multilabel=True)
    options = ["--methods", "agcam", "rollout", "--metrics", *METRICS, "--batch-size", "3", "--save-heatmaps"]
    known = ["--checkpoint", str(checkpoint), "--output", str(folder / "out"), "--device", "cpu"]
    data = ["--data", "Shapes", "--data.val_size", str(COUNT), "--data.multilabel", "true"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SHARD", 8)
        patch.setattr(run, "SHOWN", 7)
        assert main(["benchmark", *known, *options, *data]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def shown(output: Path) -> list[ExplainedImage]:
    return read_panel(output / "panel")[0]


def test_images_are_spread_and_every_class_is_shown(shown: list[ExplainedImage]) -> None:
    source = ShapesDataset(COUNT, 32, "val", multilabel=True)
    assert list(dict.fromkeys(s.index for s in shown)) == [n * COUNT // 7 for n in range(7)]
    for entry in shown:
        example = source[entry.index]
        names = [CLASSES[label] for label in example.labels]
        assert sorted(entry.truth) == sorted(names)
        assert [s.explained for s in shown if s.index == entry.index] == list(entry.truth)
        assert entry.mask is not None
        assert entry.mask.any()
        assert len(entry.boxes) == (example.box_labels == CLASSES.index(entry.explained)).sum()


def test_heatmaps_are_those_that_were_measured(shown: list[ExplainedImage], output: Path) -> None:
    saved = {}
    for number in range(2):
        shard = load_file(output / f"heatmaps/{number:05d}.safetensors")
        for row, key in enumerate(zip(shard["index"], shard["target"], strict=True)):
            saved[key] = {name: maps[row] for name, maps in shard.items() if name not in ("index", "target")}
    for entry in shown:
        wanted = saved[entry.index, CLASSES.index(entry.explained)]
        assert set(entry.heatmaps) == {"agcam", "rollout", "random", "center"}
        for name, heatmap in entry.heatmaps.items():
            np.testing.assert_allclose(heatmap, wanted[name], rtol=1e-4, atol=1e-6)


def test_figures_and_curves_are_those_of_the_image(shown: list[ExplainedImage], output: Path) -> None:
    with (output / "images.csv").open() as file:
        rows = {(r["method"], int(r["index"]), int(r["target"])): r for r in csv.DictReader(file)}
    for entry in shown:
        for method, figures in entry.figures.items():
            row = rows[method, entry.index, CLASSES.index(entry.explained)]
            assert entry.probability == pytest.approx(float(row["probability"]), rel=1e-5)
            assert {"abpc", "localization/iou", "pointing_game", "insertion"} <= set(figures)
            for name, value in figures.items():
                assert value == pytest.approx(float(row[name]), rel=1e-5, abs=1e-6)
            curves = entry.curves[method]
            assert [len(curves[name]) for name in ("lerf", "morf", "insertion", "deletion")] == [11, 11, 21, 21]
            assert np.mean(curves["lerf"]) - np.mean(curves["morf"]) == pytest.approx(figures["abpc"], abs=1e-5)
            assert curves["morf"][0] == pytest.approx(entry.probability, abs=1e-4)


def test_the_report_is_written_at_the_end(output: Path) -> None:
    assert "Explanation methods side by side" in (output / "report.html").read_text("utf-8")
