"""A folder of explained photographs: added to, resumed after kills, never mixed, and small."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agcam.cli.explain import main
from agcam.report.write import open_report
from benchmark.small_benchmarks import write_checkpoint
from processes import start
from whole_files import assert_whole


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("ckpt") / "model.ckpt")


def photograph(path: Path, width: int = 60, height: int = 40, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def arguments(checkpoint: Path, source: Path, output: Path, *more: object) -> list[str]:
    known = ["images", "--device", "cpu", "--checkpoint", checkpoint, "--input", source, "--output", output]
    return [*map(str, known), "--quiet", *map(str, more)]


def record(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "predictions.json").read_text())
    return found


def names(output: Path) -> list[str]:
    return [Path(entry["image"]).name for entry in record(output)["images"]]


def test_overlays_are_jpegs_of_the_photographs_own_shape(checkpoint: Path, tmp_path: Path) -> None:
    photograph(tmp_path / "photos" / "small.jpg", 90, 30)
    photograph(tmp_path / "photos" / "large.jpg", 600, 400)
    photograph(tmp_path / "photos" / "upright.png", 20, 70)
    assert main(arguments(checkpoint, tmp_path / "photos", tmp_path / "out", "--max-side", 300)) == 0
    for entry in record(tmp_path / "out")["images"]:
        expected = {"small": (90, 30), "large": (300, 200), "upright": (20, 70)}[entry["stem"]]
        for found in entry["classes"]:
            with Image.open(tmp_path / "out" / found["overlay"]) as image:
                assert (image.format, image.size) == ("JPEG", expected)


def test_what_a_crop_hides_is_drawn_without_heat_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photograph(tmp_path / "photos" / "wide.png", 200, 100)
    cropping = {"size": 32, "resize": "center_crop", "crop_pct": 0.9}
    checkpoint = write_checkpoint(tmp_path / "crops.ckpt", entering=cropping)
    known = ["images", "--device", "cpu", "--checkpoint", str(checkpoint), "--input", str(tmp_path / "photos")]
    assert main([*known, "--output", str(tmp_path / "out"), "--top", "2", "--overlays", "png"]) == 0
    assert "the model sees the central square of 90.0% of the shorter side" in capsys.readouterr().err
    (entry,) = record(tmp_path / "out")["images"]
    assert (entry["size"], entry["visible"]) == ([200, 100], [55, 5, 145, 95])
    one, other = (np.array(Image.open(tmp_path / "out" / found["overlay"])) for found in entry["classes"])
    assert one.shape == (100, 200, 3)
    assert np.array_equal(one[:, :55], other[:, :55])
    assert not np.array_equal(one[5:95, 55:145], other[5:95, 55:145])
    assert any("central square" in note for note in open_report(tmp_path / "out").notes)


def test_a_second_call_adds_what_is_new_and_leaves_the_rest(checkpoint: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photograph(photos / "a.jpg")
    assert main(arguments(checkpoint, photos, out)) == 0
    before = {path: path.stat().st_mtime_ns for path in out.glob("a.*")}
    photograph(photos / "b.jpg", seed=1)
    photograph(photos / "sub" / "a.jpg", seed=2)
    assert main(arguments(checkpoint, photos, out)) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("a.*")} == before
    found = record(out)
    assert [entry["stem"] for entry in found["images"]] == ["a", "b", "a_2"]
    assert [run["images"] for run in found["runs"]] == [1, 2]
    assert main(arguments(checkpoint, photos, out)) == 0
    assert len(record(out)["runs"]) == 2


def test_a_photograph_that_changed_is_explained_again(checkpoint: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photograph(photos / "a.jpg")
    photograph(photos / "b.jpg", seed=1)
    assert main(arguments(checkpoint, photos, out)) == 0
    first = np.load(out / "a.npz")["heatmaps"]
    photograph(photos / "a.jpg", width=64, seed=7)
    assert main(arguments(checkpoint, photos, out)) == 0
    assert sorted(names(out)) == ["a.jpg", "b.jpg"]
    assert not np.array_equal(first, np.load(out / "a.npz")["heatmaps"])
    overlays = {found["overlay"] for entry in record(out)["images"] for found in entry["classes"]}
    views = {entry["view"] for entry in record(out)["images"]}
    assert {path.name for path in out.glob("*.jpg")} == overlays | views


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--top", 2], "--top 3, not 2"),
        (["--method", "rollout"], "--method agcam, not rollout"),
        (["--colormap", "viridis"], "--colormap inferno, not viridis"),
        (["--contour", 0.5], "--contour null, not 0.5"),
        ([], "weights "),
    ],
)
def test_other_settings_are_refused_in_one_line(
    checkpoint: Path, more: list[object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photograph(tmp_path / "photos" / "a.jpg")
    assert main(arguments(checkpoint, tmp_path / "photos", tmp_path / "out")) == 0
    before = (tmp_path / "out" / "predictions.json").read_bytes()
    other = checkpoint if more else write_checkpoint(tmp_path / "other.ckpt", seed=5)
    assert main(arguments(other, tmp_path / "photos", tmp_path / "out", *more)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"its photographs were explained with {said}" in line
    assert (tmp_path / "out" / "predictions.json").read_bytes() == before


def test_its_own_output_is_never_explained(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "photos" / "explained"
    photograph(photos / "a.jpg")
    for _ in range(2):
        assert main(arguments(checkpoint, photos, out)) == 0
        assert names(out) == ["a.jpg"]
    assert main(arguments(checkpoint, out, tmp_path / "again")) == 2
    assert "that agcam images wrote" in capsys.readouterr().err
    assert main(arguments(checkpoint, photos / "a.jpg", photos)) == 2
    assert f"name a folder of its own, such as {photos / 'explained'}" in capsys.readouterr().err


def test_predictions_say_how_they_were_made(checkpoint: Path, tmp_path: Path) -> None:
    photograph(tmp_path / "photos" / "a.jpg")
    assert (
        main(arguments(checkpoint, tmp_path / "photos", tmp_path / "out", "--method", "rollout:head_fusion=max")) == 0
    )
    found = record(tmp_path / "out")
    settings, (run,) = found["settings"], found["runs"]
    assert (settings["--method"], settings["--max-side"]) == ("rollout:head_fusion=max", 1600)
    assert len(settings["weights"]) == 64
    assert settings["input"]["resize"] in ("squash", "center_crop")
    assert run["model"] == "vit_tiny_patch16_224"
    assert run["weights"].endswith("model.ckpt")
    assert {"agcam", "torch", "timm", "python"} <= set(run["versions"])
    assert run["started"][:4].isdigit()
    assert (tmp_path / "out" / "report.html").is_file()
    facts = {fact.label: fact.value for fact in open_report(tmp_path / "out").facts}
    assert facts["Method"] == "rollout:head_fusion=max"
    assert facts["Weights"] == f"model.ckpt, SHA-256 {settings['weights'][:12]}…"


def test_a_method_that_runs_the_model_itself_explains_the_most_probable_classes(
    checkpoint: Path, tmp_path: Path
) -> None:
    photograph(tmp_path / "photos" / "a.jpg")
    for method in ("agcam", "gradcam"):
        assert main(arguments(checkpoint, tmp_path / "photos", tmp_path / method, "--method", method)) == 0
    (one,), (other,) = (record(tmp_path / method)["images"] for method in ("agcam", "gradcam"))
    assert [found["class"] for found in one["classes"]] == [found["class"] for found in other["classes"]]
    maps = [np.load(tmp_path / method / "a.npz")["heatmaps"] for method in ("agcam", "gradcam")]
    assert not np.array_equal(*maps)


def explained(out: Path) -> int:
    journal = out / ".progress.jsonl"
    return journal.read_bytes().count(b"\n") if journal.is_file() else 0


def test_kill_nine_at_any_moment_loses_and_doubles_nothing(checkpoint: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    for number in range(120):
        photograph(photos / f"{number % 60}/{number // 60}.jpg", 300, 200, seed=number)
    args = arguments(checkpoint, photos, out, "--batch-size", 2)
    moments = random.Random(os.getpid())
    for number in range(3):
        seen, run = explained(out), start(args, tmp_path / f"printed_{number}", module="agcam.cli.explain")
        while explained(out) <= seen + 1 and run.process.is_alive():  # it has begun to write
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.15))
        run.process.kill()
        assert run.wait() in (-signal.SIGKILL, 0), run.printed
    assert explained(out) > 0
    last = start(args, tmp_path / "printed", module="agcam.cli.explain")
    assert last.wait() == 0, last.printed
    found = record(out)
    images = [entry["file"]["path"] for entry in found["images"]]
    assert len(images) == len(set(images)) == 120
    assert sum(run["images"] for run in found["runs"]) == 120
    assert len({entry["stem"] for entry in found["images"]}) == 120
    named = {
        name for e in found["images"] for name in (e["view"], e["heatmaps"], *(c["overlay"] for c in e["classes"]))
    }
    assert {path.name for path in out.iterdir()} == named | {"predictions.json", "report.html"}
    assert_whole(out)
    assert main(arguments(checkpoint, photos, tmp_path / "whole", "--batch-size", 2)) == 0
    for entry in record(tmp_path / "whole")["images"]:
        for name in (entry["heatmaps"], entry["view"], *(found["overlay"] for found in entry["classes"])):
            assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


MEASURE = """
import sys
from pathlib import Path
def peak():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) / 1024
import agcam.cli.images, agcam.report.write
from agcam.cli.explain import main
from agcam.training.loaded import load_trained
load_trained(Path(sys.argv[1]))
before = peak()
assert main(sys.argv[2:]) == 0
print(before, peak())
"""


def test_large_photographs_take_little_memory_and_less_disk_than_they_are(checkpoint: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photo = photograph(tmp_path / "photos" / "0.jpg", 4000, 3000)
    grain = rng.normal(0, 4, (3000, 4000, 1)).astype(np.int16)
    pixels = (np.array(Image.open(photo)).astype(np.int16) + grain).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(photo, quality=85)
    for number in range(1, 4):
        shutil.copy(photo, tmp_path / "photos" / f"{number}.jpg")
    args = arguments(checkpoint, tmp_path / "photos", tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(checkpoint), *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    before, peak = map(float, done.stdout.split())
    assert peak - before < 300, (before, peak)  # MiB; each photograph alone is 34 once decoded
    sizes = [sum(path.stat().st_size for path in (tmp_path / name).iterdir()) for name in ("photos", "out")]
    assert sizes[1] <= sizes[0], sizes
