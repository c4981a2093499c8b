"""The benchmarks run, on next to nothing, and write what they print."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import agcam

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = ["--rounds", "1", "--count", "2", "--pixels", "300", "200"]


def run(script: str, *arguments: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def train(output: Path, *arguments: str) -> dict[tuple[str, str, str], dict[str, float]]:
    """The rows that benchmarks/train.py wrote, by part, case and variant."""
    printed = run("train.py", *TINY, *arguments, "--output", str(output))
    assert printed.endswith((output / "train_cpu_fp32.md").read_text() + "\n")
    written = json.loads((output / "train_cpu_fp32.json").read_text())
    assert {"device", "cores", "torch", "lightning", "date"} <= written["where"].keys()
    return {(row["part"], row["case"], row["variant"]): row for row in written["rows"]}


def test_the_input_pipeline_is_measured_beside_torchvision(tmp_path: Path) -> None:
    rows = train(tmp_path, "--only", "b")
    assert [variant for _, case, variant in rows if case == "decoded images"] == ["torchvision v2", "agcam"]
    assert [variant for _, case, variant in rows if case.startswith("files, 300×200 pixels")] == [
        "torchvision v2, Pillow",
        "torchvision v2, torchvision.io",
        "agcam",
    ]
    for row in rows.values():
        assert row["images_per_second"] > 0
        assert row["speed"] > 0
        assert (row["speed"] == 1) == (row["variant"] in ("torchvision v2", "torchvision v2, Pillow"))


@pytest.mark.slow
def test_the_training_step_and_the_cache_are_measured(tmp_path: Path) -> None:
    rows = train(tmp_path, "--only", "a", "c", "d", "--model", "vit_tiny_patch16_224", "--batch", "2", "--steps", "1")
    assert [(part, variant) for part, _, variant in rows] == [
        *[("a", "bare loop"), ("a", "Lightning")] * 2,
        ("c", "no cache"),
        ("c", "first epoch, cache built"),
        ("c", "later epochs, cached"),
        *[("d", "bare loop"), ("d", "Lightning")] * 2,
    ]


@pytest.mark.slow
def test_the_cost_of_an_explanation_is_measured(tmp_path: Path) -> None:
    options = ["--model", "vit_tiny_patch16_224", "--batch", "1", "--rounds", "1", "--slow-rounds", "1", "--no-memory"]
    run("explain.py", *options, "--output", str(tmp_path))
    rows = json.loads((tmp_path / "explain_vit_tiny_patch16_224_b1_cpu_fp32.json").read_text())["rows"]
    assert [row["variant"] for row in rows][:2] == ["forward", "agcam, 1 class"]
    assert rows[0]["ratio"] == 1


@pytest.mark.slow
def test_the_cost_of_the_callback_is_measured(tmp_path: Path) -> None:
    run("callback.py", "--rounds", "1", "--output", str(tmp_path))
    (row,) = json.loads((tmp_path / "callback.json").read_text())["rows"]
    assert (row["images"], row["case"]) == (800, "shapes, 64 px, masks")
    assert row["ratio"] == pytest.approx(row["explained"] / row["plain"])


def memory(output: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """The rows that benchmarks/memory.py wrote. Nothing may be open at the end that was not open before."""
    run("memory.py", *arguments, "--output", str(output))
    rows = {row["what"]: row for row in json.loads((output / "memory.json").read_text())["rows"]}
    assert list(rows) == ["agcam.explain", "explain.py images", "fit with the callback"]
    for row in rows.values():
        for name in ("files", "threads", "processes"):
            assert row[name][0] >= row[name][1], (row["what"], name)
    return rows


@pytest.mark.timeout(900)
def test_explaining_and_training_leave_nothing_open(tmp_path: Path) -> None:
    rows = memory(tmp_path, "--images", "320", "--epochs", "5")
    assert [row["count"] for row in rows.values()] == [320, 318, 5]
    assert all(row["grown"] < 40 for row in rows.values())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_is_flat(tmp_path: Path) -> None:
    rows = memory(tmp_path)
    assert rows["agcam.explain"]["slope"] < 200
    assert rows["explain.py images"]["slope"] < 4000  # its predictions.json is written in the end
    assert rows["fit with the callback"]["slope"] < 300_000


def test_the_maps_of_some_blocks_add_up_to_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=48, depth=3, embed_dim=24, num_heads=2).eval()
    images, few = torch.rand(2, 3, 48, 48), "layers:agcam_of_blocks"
    below = agcam.explain(model, images, method=few, stop=1).heatmaps
    above = agcam.explain(model, images, method=few, start=1).heatmaps
    every = agcam.explain(model, images).heatmaps
    torch.testing.assert_close(below + above, every)
    assert bool((below > 0).any())
    assert bool((above > 0).any())


@pytest.mark.slow
def test_perturbation_metrics_are_measured_beside_their_forwards(tmp_path: Path) -> None:
    arguments = ["--model", "vit_tiny_patch16_224", "--images", "1", "--rounds", "1", "--output", str(tmp_path)]
    printed = run("perturbation.py", *arguments)
    assert printed == (tmp_path / "perturbation_vit_tiny_patch16_224.md").read_text() + "\n"
    assert [line.split(" | ")[0] for line in printed.splitlines()[4:6]] == ["| ABPC", "| insertion and deletion"]


def test_what_starting_takes_is_measured(tmp_path: Path) -> None:
    printed = run("startup.py", "--rounds", "1", "--output", str(tmp_path))
    assert printed.endswith((tmp_path / "startup.md").read_text() + "\n")
    rows = dict(re.findall(r"^\| `(.*)` \| ([\d.]+) \|", printed, re.MULTILINE))
    assert len(rows) == 7
    assert all(float(seconds) >= 0 for seconds in rows.values())
