"""The benchmark command: what it writes, how it stops and goes on, and what it says of failures and bad input."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from small_benchmarks import shapes_model, whole_batch, write_checkpoint
from torch import Tensor

from agcam import DataError, InputError, explain
from agcam.benchmark import run
from agcam.benchmark.default_methods import DEFAULT
from agcam.benchmark.methods import parse_methods
from agcam.benchmark.results import CurveInfo, Estimate, Results, Row, ValueInfo, read_json, write_json
from agcam.benchmark.shard import read
from agcam.cli.explain import main
from agcam.data.shapes import ShapesDataset
from agcam.explainers import registry
from agcam.explainers.methods.agcam import agcam
from agcam.explainers.registry import MethodSpec, methods
from agcam.io.lock import locked_folder
from processes import another_holds

ROOT = Path(__file__).parents[2]
COUNT = 12
METHODS = ["agcam", "rollout:head_fusion=max", "random", "center"]
METRICS = ["localization", "leem2024", "max_box_acc", "energy_pointing_game", "abpc"]
FINISHED = ["--methods", *METHODS[:2], "--metrics", *METRICS, "--batch-size", 5, "--save-heatmaps"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("ckpt") / "model.ckpt")


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SHARD", 8)


def arguments(checkpoint: Path, output: Path, *more: object, size: int = COUNT) -> list[str]:
    known = ["benchmark", "--device", "cpu", "--checkpoint", checkpoint, "--output", output, *more]
    return [*map(str, known), "--data", "Shapes", "--data.val_size", str(size)]


@pytest.fixture(scope="module")
def finished(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run over two shards, of two batches and of one."""
    output = tmp_path_factory.mktemp("finished") / "new" / "output"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SHARD", 8)
        assert main(arguments(checkpoint, output, *FINISHED)) == 0
    return output


def figures(output: Path) -> dict[str, Any]:
    """`results.json` without what differs from run to run."""
    found: dict[str, Any] = json.loads((output / "results.json").read_text())
    del found["about"]["date"]
    for row in found["rows"]:
        del row["cost"]
    return found


def assert_close(found: Any, expected: Any) -> None:
    """Equal but for the last digits of floats."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_close(found[name], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    else:
        assert found == (pytest.approx(expected, abs=1e-6) if isinstance(expected, float) else expected)


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


def test_each_method_and_both_controls_are_rows_of_every_file(finished: Path) -> None:
    results = read_json(finished / "results.json")
    assert [(row.method, row.control) for row in results.rows] == [
        (method, method in ("random", "center")) for method in METHODS
    ]
    assert (results.images, results.pairs, results.schema) == (COUNT, COUNT, 2)
    assert results.about["versions"].keys() >= {"agcam", "torch", "timm"}
    assert results.about["data"] == "Shapes val"
    for row in results.rows:
        assert row.values.keys() == results.values.keys()
        assert row.curves.keys() == results.curves.keys()
        assert row.cost is not None
        assert row.cost.forwards > 0
        for value in row.values.values():
            assert value.low <= value.high
            assert math.isfinite(value.value)
    for name in ("results.md", "results.tex"):
        text = (finished / name).read_text().replace("\\_", "_")
        assert all(method in text for method in METHODS)
    for figure in ("grid", "peaks", "perturbation", "thresholds"):
        with Image.open(finished / "figures" / f"{figure}.png") as image:
            image.load()
        assert (finished / "figures" / f"{figure}.pdf").read_bytes().startswith(b"%PDF")
    assert not list(finished.rglob("*.part"))


def test_rows_of_the_csv_average_to_the_figures(finished: Path) -> None:
    with (finished / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["index"]) for row in rows] == [(m, str(n)) for m in METHODS for n in range(COUNT)]
    assert {row["name"] for row in rows} == {f"val_{n:06d}" for n in range(COUNT)}
    results = read_json(finished / "results.json")
    for entry in results.rows:
        mine = [row for row in rows if row["method"] == entry.method]
        for name in ("localization/iou", "leem2024/dice", "top1_loc", "energy_pointing_game", "abpc"):
            cells = [float(row[name]) for row in mine if row[name]]
            assert len(cells) == entry.values[name].count
            assert np.mean(cells) == pytest.approx(entry.values[name].value, abs=1e-6)
        right = [row["correct"] == "True" for row in mine]
        assert np.mean(right) == pytest.approx(results.top1_accuracy.value)
        assert entry.values["leem2024/iou"].count == sum(right) > 0


def test_results_are_read_as_they_were_written(finished: Path, tmp_path: Path) -> None:
    found = read_json(finished / "results.json")
    write_json(found, tmp_path / "same.json")
    assert (tmp_path / "same.json").read_bytes() == (finished / "results.json").read_bytes()
    assert read_json(tmp_path / "same.json") == found
    nan = Estimate(math.nan, math.nan, math.nan, 0)
    info = ValueInfo("", "a\udc80", "", None, False)
    drawn = CurveInfo("toy", [0.5], "pixels", "鳥", "", "", "", "", None)
    rows = [
        Row("a\udc80", False, "why", ["鳥"], {"iou": nan}),
        Row("random", True, values={"iou": Estimate(0.5, 0.25, 0.75, 2)}),
    ]
    odd = Results(rows, {"iou": info}, {"curve": drawn}, {"pxap": "no masks"}, 0, 0, nan, {"date": "now"})
    write_json(odd, tmp_path / "odd.json")
    assert "NaN" not in (tmp_path / "odd.json").read_text()
    assert repr(read_json(tmp_path / "odd.json")) == repr(odd)


def test_heatmaps_are_read_in_three_lines(finished: Path) -> None:
    source = ShapesDataset(COUNT, 32, "val")
    batch = whole_batch(source)
    for method, name, options in ((METHODS[0], "agcam", {}), (METHODS[1], "rollout", {"head_fusion": "max"})):
        expected = explain(shapes_model(), batch.image, batch.label, name, **options).heatmaps[:, 0].numpy()
        for number, rows in enumerate((slice(0, 8), slice(8, 12))):
            maps = load_file(finished / f"heatmaps/{number:05d}.safetensors")
            assert maps[method].shape == (len(expected[rows]), 4, 4)
            assert maps[method].dtype == np.float32
            assert maps["index"].tolist() == list(range(COUNT))[rows]
            assert maps["target"].tolist() == batch.label[rows].tolist()
            np.testing.assert_allclose(maps[method], expected[rows], rtol=1e-4, atol=1e-6)
    noise = load_file(finished / "heatmaps/00000.safetensors")["random"]
    assert len(np.unique(noise)) == noise.size  # other noise for other images


def test_perturbed_images_are_run_in_bfloat16_if_asked(checkpoint: Path, tmp_path: Path) -> None:
    asked = ["--methods", "agcam", "--metrics", "abpc", "localization", "--batch-size", 5]
    for name, more in {"whole": [], "half": ["--perturbed-precision", "bf16"]}.items():
        assert main(arguments(checkpoint, tmp_path / name, *asked, *more, size=5)) == 0
    whole, half = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "half"))
    assert (whole["about"]["perturbed_precision"], half["about"]["perturbed_precision"]) == ("fp32", "bf16")
    assert "perturbed images in bf16" in (tmp_path / "half" / "report.html").read_text()
    for one, other in zip(whole["rows"], half["rows"], strict=True):
        assert one["values"]["localization/iou"] == other["values"]["localization/iou"]
        figures = [row["values"]["lerf_auc"]["value"] for row in (one, other)]
        assert figures[0] != figures[1]
        assert figures[0] == pytest.approx(figures[1], abs=0.01)


OTHERS: list[tuple[str, list[object], list[str]]] = [
    ("methods", ["--methods", "agcam"], []),
    ("metrics", ["--metrics", "abpc"], []),
    ("batch_size", ["--batch-size", 6], []),
    ("images, data", ["--limit", 9], []),
    ("data", [], ["--data.seed", "1"]),
    ("input", [], ["--data.interpolation", "bilinear"]),
    ("perturbed_precision", ["--perturbed-precision", "bf16"], []),
    ("model", [], []),
    ("shard", [], []),
]


@pytest.mark.parametrize(("named", "options", "data"), OTHERS, ids=[named for named, _, _ in OTHERS])
def test_a_folder_holds_one_benchmark(
    named: str,
    options: list[object],
    data: list[str],
    small_shards: None,
    finished: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if named == "model":
        checkpoint = write_checkpoint(tmp_path / "other.ckpt", seed=2)
    elif named == "shard":
        monkeypatch.setattr(run, "SHARD", 64)
    assert main([*arguments(checkpoint, finished, *FINISHED, *options), *data]) == 2
    (line,) = errors(capsys)
    assert f"{finished} holds a benchmark with other {named}; repeat that command to finish it" in line


def test_a_folder_is_for_one_process_at_a_time(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with another_holds(tmp_path):
        assert main(arguments(checkpoint, tmp_path, "--metrics", "abpc")) == 2
    (line,) = errors(capsys)
    assert f"{tmp_path}: another process is writing here" in line
    assert not (tmp_path / "shards").exists()
    with locked_folder(tmp_path):
        pass


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--methods", "agcam", "gradcan"], "unknown method 'gradcan'; known are agcam, attention_gradcam, "),
        (["--methods", "agcam:map=softmax"], "agcam has no option 'map'; known are feature_map, gradient, "),
        (["--methods", "agcam:softmax"], "method 'agcam:softmax': found 'softmax', expected option=value"),
        (["--metrics", "iou"], "unknown metric 'iou'; known are localization, leem2024, "),
        (["--batch-size", "0"], "--batch-size must be at least 1, found 0"),
        (["--devices", "0"], "--devices must be at least 1, found 0"),
        (["--limit", "0"], "--limit must be at least 1, found 0"),
        (["--checkpoint", "nowhere.ckpt"], "nowhere.ckpt: no such checkpoint"),
        (["--data.vals", "3"], "--data.vals: no such option"),
    ],
)
def test_bad_input_is_one_clear_line(
    options: list[str], said: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if options[0].startswith("--data"):
        options = ["--data", "Shapes", *options]
    known = ["benchmark", "--device", "cpu", "--checkpoint", str(checkpoint), "--output", str(tmp_path / "out")]
    assert main([*known, *options]) == 2
    (line,) = errors(capsys)
    assert said in line
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_no_vit_is_refused_before_any_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--device", "cpu", "--backbone", "resnet18", "--output", str(tmp_path / "out"), "--data", "Shapes"]
    assert main(["benchmark", *options]) == 2
    assert "resnet18 (ResNet) cannot be explained" in errors(capsys)[0]
    assert not (tmp_path / "out").exists()


def test_a_method_that_cannot_explain_the_model_fails_alone(
    tmp_path: Path, small_shards: None, capsys: pytest.CaptureFixture[str]
) -> None:
    pooling = write_checkpoint(tmp_path / "pooling.ckpt", global_pool="avg")
    options = ["--methods", "rollout", "agcam", "agcam:gradient=no", "--metrics", "pointing_game"]
    assert main(arguments(pooling, tmp_path / "out", *options)) == 1
    assert "rollout: failed. rollout follows one class token" in capsys.readouterr().out
    rows = {row.method: row for row in read_json(tmp_path / "out" / "results.json").rows}
    assert "pools over its tokens; use agcam or raw_attention" in rows["rollout"].failed
    assert "gradient must be" in rows["agcam:gradient=no"].failed
    for name in ("agcam", "random", "center"):
        assert (rows[name].failed, rows[name].values["pointing_game"].count) == ("", COUNT)
    for name in ("rollout", "agcam:gradient=no"):
        assert (rows[name].values, rows[name].cost) == ({}, None)
    text = (tmp_path / "out" / "results.md").read_text()
    assert "| rollout | – |" in text
    assert "- rollout: failed. rollout follows one class token through all blocks" in text
    with (tmp_path / "out" / "images.csv").open() as file:
        assert {row["method"] for row in csv.DictReader(file)} == {"agcam", "random", "center"}


def test_a_heatmap_of_nan_is_counted_named_and_in_no_figure(
    checkpoint: Path,
    tmp_path: Path,
    small_shards: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = whole_batch(ShapesDataset(COUNT, 32, "val")).image[5]

    def cracked(recording: Any, targets: Tensor) -> Tensor:
        maps = agcam(recording, targets)
        maps[(recording.images == wanted).flatten(1).all(1)] = math.nan
        return maps

    monkeypatch.setitem(registry._REGISTERED, "cracked", MethodSpec("cracked", cracked))
    options = ["--quiet", "--methods", "agcam", "cracked", "--metrics", "pointing_game", "energy_pointing_game", "abpc"]
    assert main(arguments(checkpoint, tmp_path, *options)) == 1
    assert capsys.readouterr().out == "cracked: 1 broken heatmaps, named in results.md\n"
    rows = {row.method: row for row in read_json(tmp_path / "results.json").rows}
    assert {name: row.broken for name, row in rows.items() if row.broken} == {"cracked": [rows["cracked"].broken[0]]}
    assert rows["cracked"].broken[0].startswith("val_000005 (class ")
    text = (tmp_path / "results.md").read_text().replace("\\", "")
    assert "† cracked: 1 heatmaps hold NaN or infinity, in no value: val_000005 (class " in text
    with (tmp_path / "images.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["index"], row["abpc"]) for row in table if row["broken"] == "True"] == [("5", "")]
    assert main([*arguments(checkpoint, tmp_path, *options), "--json"]) == 1  # finished: it reads the rows again
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads((tmp_path / "results.json").read_text())
    assert printed.err == "cracked: 1 broken heatmaps, named in results.md\n"
    for name, value in rows["cracked"].values.items():
        whole = rows["agcam"].values[name]
        cells = [float(row[name]) for row in table if row["method"] == "agcam" and row["index"] != "5"]
        assert (value.count, whole.count) == (COUNT - 1, COUNT)
        assert value.value == pytest.approx(np.mean(cells), abs=1e-6)


def test_data_without_boxes_give_what_needs_none(
    tmp_path: Path, small_shards: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_model = write_checkpoint(tmp_path / "model.ckpt")
    source = ShapesDataset(40, 32, "val")
    for place in range(16):
        example = source[place]
        name = f"{source.class_names[place % 8]}/{place:02d}.png"
        for split in ("train", "val"):
            (tmp_path / "photos" / split / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(example.image).save(tmp_path / "photos" / split / name)
    known = ["benchmark", "--device", "cpu", "--checkpoint", folder_model, "--output", tmp_path / "out"]
    options = ["--methods", "agcam", "--metrics", "localization", "pxap", "abpc", "--limit", 9]
    data = ["--data", "ImageFolderDataModule", "--data.root", tmp_path / "photos", "--data.num_workers", 0]
    assert main([*map(str, known), *map(str, options), *map(str, data)]) == 0
    assert "localization: not measured, the data have no boxes" in capsys.readouterr().out
    results = read_json(tmp_path / "out" / "results.json")
    assert results.absent == {"localization": "the data have no boxes", "pxap": "the data have no masks"}
    assert results.images == 9
    assert {row.values["abpc"].count for row in results.rows} == {9}
    assert set(results.values) == {"abpc", "lerf_auc", "morf_auc"}
    assert (tmp_path / "out" / "figures" / "grid.png").is_file()


def test_a_damaged_shard_is_named(finished: Path, tmp_path: Path) -> None:
    whole = (finished / "shards" / "00001.npz").read_bytes()
    half, bent = tmp_path / "half.npz", tmp_path / "bent.npz"
    half.write_bytes(whole[: len(whole) // 2])
    bent.write_bytes(whole.replace(whole[2000:2040], bytes(40)))
    for path in (half, bent, tmp_path / "none.npz"):
        with pytest.raises(DataError, match=rf"{path}: not a whole benchmark shard .*; delete it and run the command"):
            read(path)


@contextmanager
def started(args: list[str], said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command as people start it, in a process of its own; what it says goes to a file."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "explain.py", *args]
    with said.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_two_processes_find_what_one_finds(checkpoint: Path, tmp_path: Path) -> None:
    more = ["--methods", "agcam", "rollout", "--metrics", "localization", "abpc"]
    said = tmp_path / "said.txt"
    with started(arguments(checkpoint, tmp_path / "two", *more, "--devices", 2, size=140), said) as two:
        assert main(arguments(checkpoint, tmp_path / "one", *more, size=140)) == 0
        assert two.wait() == 0, said.read_text()
    assert_close(figures(tmp_path / "two"), figures(tmp_path / "one"))
    assert figures(tmp_path / "one")["rows"][0]["values"]["abpc"]["count"] == 140
    assert [path.name for path in sorted((tmp_path / "two" / "shards").iterdir())] == [f"0000{n}.npz" for n in range(3)]


def children(pid: int) -> list[int]:
    """The processes that compute for a command."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat, line = (path / "stat").read_text(), (path / "cmdline").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == pid and "spawn_main" in line:
            found.append(int(path.name))
    return found


def until(ready: Callable[[], object]) -> None:
    while not ready():
        time.sleep(0.005)


def test_a_killed_run_goes_on_where_it_was(checkpoint: Path, tmp_path: Path) -> None:
    killed, whole, more = tmp_path / "killed", tmp_path / "whole", ["--methods", "agcam", "--metrics", "pointing_game"]
    said, shards = tmp_path / "said.txt", killed / "shards"
    with started(arguments(checkpoint, killed, *more, "--devices", 2, size=400), said) as process:
        until(lambda: list(shards.glob("*.npz")) or process.poll() is not None)
        workers = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
    assert len(workers) == 2, said.read_text()
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))

    left = {path: path.stat().st_mtime_ns for path in shards.glob("*.npz")}
    assert 0 < len(left) < 7
    for path in left:
        read(path)
    assert not (killed / "results.json").exists()

    assert main(arguments(checkpoint, killed, *more, size=400)) == 0
    assert {path: path.stat().st_mtime_ns for path in left} == left
    assert len(list(shards.glob("*.npz"))) == 7
    assert main(arguments(checkpoint, whole, *more, size=400)) == 0
    assert_close(figures(killed), figures(whole))


def test_options_of_methods_are_read_as_what_they_are() -> None:
    labels = ["gradcam:block=-1", "rollout:discard_ratio=0.9,head_fusion=max", "integrated_gradients:steps=8"]
    found = {method.name: method.options for method in parse_methods(labels)}
    assert found == {
        "gradcam": {"block": -1},
        "rollout": {"discard_ratio": 0.9, "head_fusion": "max"},
        "integrated_gradients": {"steps": 8},
        "random": {},
        "center": {},
    }
    (method, *_) = parse_methods(["rollout:normalization=True"])
    assert method.options["normalization"] is True


def test_methods_come_once_and_controls_last() -> None:
    found = parse_methods(["center", "agcam", "random:seed=3", "random", "agcam"])
    assert [(method.label, method.control) for method in found] == [
        ("agcam", False),
        ("random:seed=3", True),
        ("random", True),
        ("center", True),
    ]
    everything = [method.label for method in parse_methods(["all"])]
    assert everything[: len(DEFAULT) - 2] == list(DEFAULT[:-2])
    assert everything[-2:] == ["random", "center"]
    assert len(set(everything)) == len(everything)
    assert {label.partition(":")[0] for label in everything} == set(methods())
    with pytest.raises(InputError, match="unknown method 'al'"):
        parse_methods(["al"])


def test_functions_are_methods_by_the_name_of_their_module() -> None:
    found = parse_methods(["explainers.unregistered:edges:width=2", "agcam", "explainers.unregistered:flat"])
    assert [(method.label, method.name, method.options, method.control) for method in found[:3]] == [
        ("explainers.unregistered:edges:width=2", "explainers.unregistered:edges", {"width": 2}, False),
        ("agcam", "agcam", {}, False),
        ("explainers.unregistered:flat", "explainers.unregistered:flat", {}, False),
    ]
    with pytest.raises(InputError, match=r"unregistered:flat has no option 'width'; known are none"):
        parse_methods(["explainers.unregistered:flat:width=2"])
    with pytest.raises(
        InputError, match=r"'no_such.module:edges' cannot be imported \(ModuleNotFoundError: .*PYTHONPATH"
    ):
        parse_methods(["no_such.module:edges"])
    with pytest.raises(InputError, match="unknown method 'edges'"):
        parse_methods(["edges:width=2"])
    with pytest.raises(InputError, match="found 'feature_map', expected option=value"):
        parse_methods(["agcam:feature_map"])
