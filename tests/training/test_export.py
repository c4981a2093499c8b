"""What `agcam export` writes is what timm, `open_exported` and `--model.weights` read: the same logits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import timm.data
import torch
import transformers
from PIL import Image

from agcam.cli.train import main
from agcam.data.transforms import Transform
from agcam.errors import ModelError
from agcam.io.images import read_image
from agcam.training.classifier import ViTClassifier
from agcam.training.export import open_exported

ARGS = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
NAMES = ["großer Vogel", "robin", "wren"]
INPUT = {"size": 32, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "crop_pct": 1.0}


def classifier(multilabel: bool = False, resize: str = "squash") -> ViTClassifier:
    torch.manual_seed(2)
    return ViTClassifier(
        "vit_tiny_patch16_224.augreg_in21k",
        image_size=32,
        backbone_args=ARGS,
        drop_path=0.1,
        class_names=NAMES,
        multilabel=multilabel,
        input=INPUT | ({"resize": resize} if resize == "squash" else {"resize": resize, "crop_pct": 0.8}),
    ).eval()


def exported(model: ViTClassifier, folder: Path) -> Path:
    checkpoint = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    folder.mkdir()
    torch.save(checkpoint, folder / "last.ckpt")
    assert main(["export", "--ckpt_path", str(folder / "last.ckpt"), "--output", str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def model() -> ViTClassifier:
    return classifier()


@pytest.fixture(scope="module")
def folder(model: ViTClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(model, tmp_path_factory.mktemp("export") / "run")


@torch.no_grad()
def test_timm_gives_the_same_logits(model: ViTClassifier, folder: Path) -> None:
    images = torch.randn(2, 3, 32, 32)
    expected = model(images)
    by_folder = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert torch.equal(by_folder(images), expected)
    weights = folder / "model.safetensors"
    config = json.loads((folder / "config.json").read_text())
    by_file = timm.create_model(
        config["architecture"], checkpoint_path=weights, num_classes=len(NAMES), **config["model_args"]
    ).eval()
    assert torch.equal(by_file(images), expected)


def test_the_folder_tells_how_to_prepare_images_and_what_the_classes_are(folder: Path) -> None:
    backbone = timm.create_model(f"local-dir:{folder}", pretrained=True)
    prepare = timm.data.resolve_model_data_config(backbone)
    assert prepare["input_size"] == (3, 32, 32)
    assert (tuple(prepare["mean"]), tuple(prepare["std"])) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert (prepare["interpolation"], prepare["crop_pct"], prepare["crop_mode"]) == ("bilinear", 1.0, "squash")
    assert list(backbone.pretrained_cfg["label_names"]) == NAMES
    assert (folder / "class_names.txt").read_text(encoding="utf-8").split("\n") == [*NAMES, ""]


def test_transformers_says_the_names_of_the_classes(folder: Path) -> None:
    classify = transformers.pipeline("image-classification", model=str(folder), device="cpu")
    found = classify(Image.linear_gradient("L").convert("RGB"))
    assert {answer["label"] for answer in found} == set(NAMES)


@pytest.mark.parametrize("resize", ["squash", "center_crop"])
def test_timms_own_transform_shows_the_model_nearly_the_same(resize: str, tmp_path: Path) -> None:
    model = classifier(resize=resize)
    path = exported(model, tmp_path / "run")
    photo = Image.linear_gradient("L").resize((60, 40)).convert("RGB")
    photo.save(tmp_path / "photo.png")
    backbone = timm.create_model(f"local-dir:{path}", pretrained=True)
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(backbone))(photo)
    ours = Transform(model.input_config).compose(image=read_image(tmp_path / "photo.png"), bboxes=[], box_labels=[])
    image = torch.from_numpy(ours["image"]).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(INPUT[name]).view(3, 1, 1) for name in ("mean", "std"))
    assert (theirs - (image - mean) / std).abs().max() < 0.1  # another library's interpolation


@pytest.mark.parametrize("multilabel", [False, True])
@torch.no_grad()
def test_the_folder_opens_as_the_same_classifier(multilabel: bool, tmp_path: Path) -> None:
    model = classifier(multilabel)
    opened = open_exported(exported(model, tmp_path / "run"))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(opened(images), model(images))
    assert (opened.class_names, opened.multilabel) == (NAMES, multilabel)
    assert opened.input_config == model.input_config
    assert not opened.training


def test_a_folder_that_is_none_or_broken_is_one_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json in it; expected a folder that `agcam export` wrote"):
        open_exported(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for wrong in (config | {"pretrained_cfg": {}}, [], config | {"model_args": None}):
        (tmp_path / "config.json").write_text(json.dumps(wrong))
        with pytest.raises(ModelError, match=r"config\.json: not as `agcam export` writes it"):
            open_exported(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"model\.safetensors: no such weights file"):
        open_exported(tmp_path)


def test_export_of_what_is_no_checkpoint_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--ckpt_path", str(tmp_path / "gone.ckpt"), "--output", str(tmp_path / "out")]) == 2
    assert "gone.ckpt: no such checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
