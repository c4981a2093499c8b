import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from agcam.cli.explain import main
from agcam.training.classifier import ViTClassifier
from agcam.training.export import export

CLASSES = ["black cat", "dog/wolf", "horse", "bird"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as Lightning writes it, of an untrained classifier."""
    import lightning as L

    torch.manual_seed(0)
    args = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = ViTClassifier(
        "vit_tiny_patch16_224", image_size=32, backbone_args=args, class_names=CLASSES, multilabel=False
    )
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(model)
    path = tmp_path_factory.mktemp("ckpt") / "model.ckpt"
    trainer.save_checkpoint(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for name, size in [("a.jpg", (60, 90)), ("b.png", (40, 40)), ("sub/a.jpg", (33, 70))]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*size, 3)).astype(np.uint8)).save(folder / name)
    return folder


def run(*args: object) -> int:
    return main(["images", "--device", "cpu", *map(str, args)])


def images_in(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "predictions.json").read_text())["images"]
    return found


def test_each_image_gets_overlays_heatmaps_and_predictions(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("--checkpoint", checkpoint, "--input", photos, "--output", out, "--top", 2) == 0
    predictions = images_in(out)
    assert [Path(p["image"]).relative_to(photos).as_posix() for p in predictions] == ["a.jpg", "b.png", "sub/a.jpg"]
    assert len({p["heatmaps"] for p in predictions}) == 3
    for prediction in predictions:
        raw = np.load(out / prediction["heatmaps"])
        assert raw["heatmaps"].shape == (2, 4, 4)
        assert raw["heatmaps"].dtype == np.float32
        assert raw["classes"].tolist() == [c["class"] for c in prediction["classes"]]
        probabilities = [c["probability"] for c in prediction["classes"]]
        assert probabilities == sorted(probabilities, reverse=True)
        with Image.open(prediction["image"]) as image:
            for entry in prediction["classes"]:
                assert entry["class"] == CLASSES[entry["index"]]
                with Image.open(out / entry["overlay"]) as overlay:
                    assert overlay.size == image.size
    assert not list(out.glob(".*"))


def test_an_exported_folder_explains_as_its_checkpoint_does(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    export(ViTClassifier.from_checkpoint(checkpoint), tmp_path / "exported")
    for source, output in ((checkpoint, "one"), (tmp_path / "exported", "other")):
        assert run("--checkpoint", source, "--input", photos, "--output", tmp_path / output) == 0
    one, other = (images_in(tmp_path / name) for name in ("one", "other"))
    assert one == other


def test_scripts_get_json_alone_on_stdout(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "c.jpg").write_text("no image")
    assert run("--checkpoint", checkpoint, "--input", photos, "--output", tmp_path / "out", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == images_in(tmp_path / "out")
    assert [str(photos / "c.jpg") in error for error in found["errors"]] == [True]
    assert found["output"] == str(tmp_path / "out")


def test_named_classes_are_explained_instead(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = ["--checkpoint", checkpoint, "--input", photos / "b.png", "--output", out, "--targets", "Dog/Wolf", "bird"]
    assert run(*args) == 0
    (prediction,) = images_in(out)
    assert [c["class"] for c in prediction["classes"]] == ["dog/wolf", "bird"]
    assert (out / "b.dog_wolf.jpg").is_file()


def test_results_do_not_depend_on_the_batch(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    for size in (1, 3):
        args = ["--checkpoint", checkpoint, "--input", photos, "--output", tmp_path / str(size), "--batch-size", size]
        assert run(*args) == 0
    first, second = (np.load(tmp_path / n / "b.npz")["heatmaps"] for n in "13")
    assert np.allclose(first, second, rtol=1e-4, atol=1e-7)


def test_a_bad_image_is_reported_skipped_and_seen_in_the_exit_status(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.jpg").write_bytes((photos / "a.jpg").read_bytes()[:200])
    assert run("--checkpoint", checkpoint, "--input", photos, "--output", tmp_path / "out") == 1
    assert len(images_in(tmp_path / "out")) == 3
    error = capsys.readouterr().err
    assert "broken.jpg" in error
    assert "3 of 4 images explained" in error
    assert "Traceback" not in error


def test_a_timm_model_by_name_needs_no_checkpoint(photos: Path, tmp_path: Path) -> None:
    args = ["--backbone", "vit_tiny_patch16_224", "--input", photos / "b.png", "--output", tmp_path / "out", "--top", 1]
    assert run(*args) == 0
    (prediction,) = images_in(tmp_path / "out")
    assert not prediction["classes"][0]["class"].startswith("class ")  # ImageNet's own names


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--input", "nowhere", "--output", "o"], "nowhere: no such file or folder"),
        (["--input", "{empty}", "--output", "o"], "no image in .*empty"),
        (["--input", "{photo}", "--output", "o", "--targets", "cow"], "unknown class 'cow'; the model has black cat"),
        (["--input", "{photo}", "--output", "o", "--top", "0"], "--top must be at least 1, found 0"),
        (["--input", "{photo}", "--output", "o", "--device", "warp"], "--device warp: "),
        (["--input", "{photo}", "--output", "o", "--pretrained"], "--pretrained goes with --backbone"),
    ],
)
def test_bad_input_is_one_clear_line(
    args: list[str], said: str, checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    filled = [a.format(empty=tmp_path / "empty", photo=photos / "b.png") for a in args]
    filled = [str(tmp_path / "out") if a == "o" else a for a in filled]
    assert run("--checkpoint", checkpoint, *filled) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert re.search(said, lines[0])


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "not a whole checkpoint"), (b"not a checkpoint", "not a whole checkpoint"), (None, "no such checkpoint")],
)
def test_a_checkpoint_that_is_none_is_named(
    content: bytes | None, said: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.ckpt"
    if content is not None:
        path.write_bytes(content)
    assert run("--checkpoint", path, "--input", photos, "--output", tmp_path / "out") == 2
    assert f"error: {path}: {said}" in capsys.readouterr().err


def test_foreign_models_are_refused_by_name(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--backbone", "resnet18", "--input", photos, "--output", tmp_path / "out") == 2
    assert "resnet18 (ResNet) cannot be explained" in capsys.readouterr().err
    assert run("--backbone", "vit_tini", "--input", photos, "--output", tmp_path / "out") == 2
    assert "timm has no model 'vit_tini'" in capsys.readouterr().err
