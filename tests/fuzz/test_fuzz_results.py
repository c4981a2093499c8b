"""Broken files of benchmarks (results, shards, manifest), explanations (panels, heatmaps, predictions) and runs."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import fuzz, fuzz_one_of, inputs
from hypothesis import strategies as st
from mutations import broken_bytes, broken_json, broken_text
from PIL import Image

from agcam.benchmark import results, shard, tables
from agcam.benchmark.compare import compare, open_results
from agcam.benchmark.results import Cost, CurveInfo, Estimate, Results, Row, ValueInfo
from agcam.benchmark.run import MANIFEST, _check_manifest
from agcam.benchmark.shard import Shard
from agcam.io.explained_images import ExplainedImage, read_panel, write_panel
from agcam.report.images import images_report
from agcam.report.page import render
from agcam.report.run import run_report

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:zipfile")


def valid_results() -> Results:
    value = Estimate(0.5, 0.25, 0.75, 4)
    rows = [
        Row("agcam", False, "", ["a.jpg (class 1)"], {"localization/iou": value}, {"morf": [0.5, 0.1]}, Cost(1.5, 2.0)),
        Row("random", True, "no | model"),
    ]
    about = {"model": "m", "data": "d", "date": "2026-01-01", "input": {"size": 16}}
    values = {"localization/iou": ValueInfo("Localization", "IoU", "Overlap.", True, False)}
    curves = {"morf": CurveInfo("abpc", [0.0, 1.0], "pixels", "MoRF", "share", "probability", "MoRF", "Falls.", False)}
    return Results(rows, values, curves, {"pxap": "no masks"}, 4, 4, value, about)


def valid_shard() -> Shard:
    names = np.array(["a", "b", "c", "d"])
    number = np.arange(4)
    right = number > 0
    return Shard(
        images={"index": number, "correct": right},
        pairs={
            "index": number,
            "target": number % 2,
            "correct": right,
            "predicted": number % 3,
            "probability": number / 4,
            "name": names,
        },
        rows={"agcam": {"localization": np.random.default_rng(0).random((4, 24), np.float32)}},
        broken={"agcam": number > 5},
        seconds={"": np.ones(2), "agcam": np.ones(2)},
        failed={"lrp": "cannot"},
        shown=np.array([0, 2]),
        maps={"agcam": np.random.default_rng(1).random((2, 3, 3), np.float32)},
    )


@inputs(200)
def test_results(examples: int, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results.write_json(valid_results(), path)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        found = results.read_json(path)
        tables.markdown(found)
        tables.latex(found)

    fuzz("results.json", broken_json(json.loads(path.read_bytes())), read, path, examples)


def repacked(valid: bytes) -> st.SearchStrategy[bytes]:
    """A zip archive with one of its files broken, renamed, doubled or left out."""
    with zipfile.ZipFile(io.BytesIO(valid)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}

    def pack(changed: tuple[str, str, bytes | None]) -> bytes:
        old, name, content = changed
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for key, value in files.items():
                if key != old:
                    archive.writestr(key, value)
            if content is not None:
                archive.writestr(name, content)
        return out.getvalue()

    names = st.sampled_from([*files, "x", "failed.npy", "__class__|x.npy", "|.npy", "rows|agcam.npy", "../x.npy"])
    broken = [st.tuples(st.just(name), st.just(name), broken_bytes(content)) for name, content in files.items()]
    moved = [st.tuples(st.just(name), names, st.sampled_from([None, *files.values()])) for name in files]
    return st.one_of(*broken, *moved).map(pack)


@inputs(300)
def test_shards(examples: int, tmp_path: Path) -> None:
    path = tmp_path / "shards" / "00000.npz"
    shard.write(valid_shard(), path)
    results.write_json(valid_results(), tmp_path / "results.json")
    whole = path.read_bytes()

    def read(content: bytes) -> None:
        path.write_bytes(content)
        found = open_results(tmp_path)
        if "agcam" in found.rows:
            compare(found, "agcam", found, "agcam")

    fuzz("shards", st.one_of(broken_bytes(whole), repacked(whole)), read, tmp_path, examples)


@inputs(100)
def test_manifests(examples: int, tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"methods": ["agcam"], "images": 4, "model": "0f", "input": {"size": 16}}
    _check_manifest(tmp_path, wanted)

    def read(content: bytes) -> None:
        (tmp_path / MANIFEST).write_bytes(content)
        _check_manifest(tmp_path, wanted)

    fuzz("benchmark.json", broken_json(wanted), read, tmp_path, examples)


@inputs(300)
def test_panels(examples: int, tmp_path: Path) -> None:
    heatmaps = {"agcam": np.arange(4.0).reshape(2, 2)}
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    mask, boxes = np.eye(8, dtype=bool), np.array([[1.0, 2, 3, 4]])
    shown = ExplainedImage(
        0, "a.jpg", image, "cat", ("cat",), "dog", 0.5, boxes, mask, heatmaps, {"agcam": {"iou": 0.5}}
    )
    folder = tmp_path / "val_epoch_000"
    write_panel(folder, [shown], {"stage": "val", "epoch": 0})
    (picture,) = (tmp_path / "images").iterdir()
    facts, arrays = folder / "panel.json", folder / "panel.npz"
    fuzz_one_of(
        "panels",
        {
            facts: broken_json(json.loads(facts.read_bytes())),
            arrays: st.one_of(broken_bytes(arrays.read_bytes()), repacked(arrays.read_bytes())),
            picture: broken_bytes(picture.read_bytes()),
        },
        lambda: read_panel(folder),
        tmp_path,
        examples,
    )


@inputs(200)
def test_explained_photographs(examples: int, tmp_path: Path) -> None:
    view, heatmaps, predictions = (tmp_path / name for name in ("a.view.png", "a.npz", "predictions.json"))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(view)
    np.savez(heatmaps, heatmaps=np.zeros((1, 2, 2), np.float32), targets=np.array([0]))
    classes = [{"class": "cat", "index": 0, "probability": 0.5, "overlay": "a.cat.png"}]
    found = {"image": "a.jpg", "view": "a.view.png", "heatmaps": "a.npz", "predicted": "cat", "classes": classes}
    found |= {"stem": "a", "file": {"path": "~/a.jpg"}}
    settings = {"weights": "0" * 64, "--method": "agcam", "--top": 1, "input": {"resize": "squash", "crop_pct": 1.0}}
    run = {"started": "2026-11-26T12:00:00+00:00", "model": "vit_tiny", "weights": "/home/ann/cats.ckpt", "images": 1}
    run |= {"versions": {"agcam": "1", "torch": "2"}, "device": "cpu", "seconds": 75.2}
    record = {"schema": 2, "settings": settings, "runs": [run], "errors": [], "images": [found]}
    predictions.write_text(json.dumps(record))
    fuzz_one_of(
        "explained photographs",
        {
            predictions: broken_json(record),
            heatmaps: repacked(heatmaps.read_bytes()),
            view: broken_bytes(view.read_bytes()),
        },
        lambda: images_report(tmp_path),
        tmp_path,
        examples,
    )


@inputs(200)
def test_runs(examples: int, tmp_path: Path) -> None:
    metrics, settings = tmp_path / "metrics.csv", tmp_path / "config.yaml"
    metrics.write_text(
        "epoch,step,train/loss,val/accuracy,val/loc/iou,val/loc_random/iou\n0,1,2.5,,,\n0,2,,0.5,0.2,0.1\n"
    )
    settings.write_text(
        "model: {backbone: vit, pretrained: true}\ndata: {class_path: a.Shapes}\nexplanation: {methods: [a]}\n"
    )
    fuzz_one_of(
        "runs",
        {metrics: broken_text(metrics.read_text()), settings: broken_text(settings.read_text())},
        lambda: render(run_report(tmp_path), tmp_path / "report.html"),
        tmp_path,
        examples,
    )
