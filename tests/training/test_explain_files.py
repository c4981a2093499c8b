"""`agcam.explain_files`: the figures of `agcam images`, a result a photograph."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

import agcam
from agcam.cli.explain import main
from agcam.errors import DataError, InputError, ModelError
from agcam.training.classifier import ViTClassifier
from small_checkpoint import save, small_classifier

NAMES = ["beetle 0", "beetle 1", "beetle 2"]
ARGS = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 32}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(small_classifier(classes=3), tmp_path_factory.mktemp("checkpoint") / "model.ckpt")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs, and a file that is none between them."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, size in [("a.jpg", (60, 90)), ("b.png", (40, 40)), ("d.jpg", (33, 70)), ("sub/e.png", (20, 20))]:
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*size, 3)).astype(np.uint8)).save(folder / name)
    (folder / "c.jpg").write_bytes((folder / "a.jpg").read_bytes()[:200])
    return folder


@pytest.mark.parametrize(
    ("method", "label", "options", "more", "given"),
    [
        ("agcam", "agcam", {}, [], {}),
        ("rollout", "rollout:head_fusion=max", {"head_fusion": "max"}, ["--top", "2"], {"top": 2}),
        ("gradcam", "gradcam", {}, ["--targets", NAMES[1]], {"targets": NAMES[1].upper()}),
    ],
)
def test_the_figures_are_those_of_the_command(
    method: str,
    label: str,
    options: dict[str, Any],
    more: list[str],
    given: dict[str, Any],
    checkpoint: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    command = ["images", "--device", "cpu", "--checkpoint", checkpoint, "--input", photos, "--output", tmp_path, *more]
    assert main([*map(str, command), "--method", label, "--batch-size", "2"]) == 1
    reported = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    expected = {entry["image"]: entry for entry in json.loads((tmp_path / "predictions.json").read_text())["images"]}
    with caplog.at_level(logging.WARNING):
        found = list(
            agcam.explain_files(checkpoint, photos, method=method, batch_size=2, device="cpu", **given, **options)
        )
    assert [photo.path.name for photo in found] == ["a.jpg", "b.png", "c.jpg", "d.jpg", "e.png"]
    for photo in found:
        if photo.path.name == "c.jpg":
            assert [f"error: {photo.error}"] == reported
            assert photo.error in caplog.text
            assert (photo.classes, photo.predicted, len(photo.heatmaps)) == ((), "", 0)
            continue
        entry = expected[str(photo.path)]
        assert (photo.error, photo.predicted) == ("", entry["predicted"])
        assert list(photo.classes) == [one["class"] for one in entry["classes"]]
        assert list(photo.probabilities) == [one["probability"] for one in entry["classes"]]
        with np.load(tmp_path / entry["heatmaps"]) as raw:
            assert np.array_equal(photo.heatmaps, raw["heatmaps"])
            assert list(photo.targets) == raw["targets"].tolist()


def test_models_in_memory_are_explained_where_they_are(checkpoint: Path, photos: Path) -> None:
    model = ViTClassifier.from_checkpoint(checkpoint).train()
    (expected,) = agcam.explain_files(str(checkpoint), photos / "a.jpg", device="cpu")
    for same in (model, nn.Sequential(model)):
        (found,) = agcam.explain_files(same, [str(photos / "a.jpg")])
        assert np.array_equal(found.heatmaps, expected.heatmaps)
        assert found.classes == expected.classes
    assert model.training
    with pytest.raises(InputError, match=r"device='cpu' goes with a checkpoint; move the model yourself"):
        agcam.explain_files(model, photos, device="cpu")


def test_a_model_of_timm_names_its_classes_where_it_can(photos: Path) -> None:
    for changes, names in (
        ({"num_classes": 3}, {"class 0", "class 1", "class 2"}),
        ({"num_classes": 2, "pretrained_cfg_overlay": {"label_names": ["wren", "robin"]}}, {"wren", "robin"}),
    ):
        model = timm.create_model("vit_tiny_patch16_224", **ARGS, **changes).eval()
        (found,) = agcam.explain_files(model, photos / "b.png")
        assert set(found.classes) == names
        assert found.heatmaps.shape == (len(names), 4, 4)
        images = agcam.preprocess(model)(photos / "b.png")[None]
        explanation = agcam.explain(model, images, [list(found.targets)])
        assert torch.equal(explanation.heatmaps[0], torch.from_numpy(found.heatmaps))
    (found,) = agcam.explain_files(timm.create_model("vit_tiny_patch16_224", **ARGS), photos / "b.png", top=1)
    assert not found.predicted.startswith("class ")  # ImageNet's own names


def test_what_makes_no_sense_is_refused_before_anything_is_explained(checkpoint: Path, photos: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        agcam.explain_files(checkpoint, "nowhere")
    with pytest.raises(ModelError, match=r"gone\.ckpt: no such checkpoint"):
        agcam.explain_files("gone.ckpt", photos)
    with pytest.raises(InputError, match=f"unknown class 'cow'; the model has {NAMES[0]}"):
        agcam.explain_files(checkpoint, photos, "cow")
    with pytest.raises(InputError, match="batch_size must be at least 1, found 0"):
        agcam.explain_files(checkpoint, photos, batch_size=0)
    with pytest.raises(InputError, match="nonsense"):
        agcam.explain_files(checkpoint, photos, method="nonsense")
    nameless = nn.Sequential(timm.create_model("vit_tiny_patch16_224", **ARGS))
    with pytest.raises(InputError, match="Sequential does not name its classes; set its class_names"):
        agcam.explain_files(nameless, photos)
