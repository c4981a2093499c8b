import logging
import os
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from agcam.classifier import ViTClassifier
from agcam.errors import ModelError

ARGS = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
MODEL = "vit_tiny_patch16_224"


def state(classes: int = 4, **changes: object) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return timm.create_model(MODEL, img_size=32, num_classes=classes, **(ARGS | changes)).state_dict()


def classifier(path: Path, classes: int = 4) -> ViTClassifier:
    names = [f"c{i}" for i in range(classes)]
    return ViTClassifier(
        MODEL, weights=str(path), image_size=32, backbone_args=ARGS, class_names=names, multilabel=False
    )


@pytest.mark.parametrize("kind", ["safetensors", "state_dict", "timm", "lightning"])
def test_every_kind_of_file_loads(kind: str, tmp_path: Path) -> None:
    weights = state()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(weights, path)
    else:
        wrapped = {f"backbone.{k}": v for k, v in weights.items()} | {"val_loss.total": torch.zeros(())}
        torch.save(
            {"state_dict": weights, "timm": {"state_dict": weights}, "lightning": {"state_dict": wrapped}}.get(
                kind, weights
            )
            if kind != "state_dict"
            else weights,
            path,
        )
    loaded = classifier(path).backbone.state_dict()
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


@pytest.mark.parametrize("fault", ["misfit", "missing"])
def test_a_head_that_does_not_fit_is_made_anew_and_said_so(
    fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = state(classes=7)
    if fault == "missing":
        weights = {k: v for k, v in weights.items() if not k.startswith("head.")}
    save_file(weights, tmp_path / "w.safetensors")
    with caplog.at_level(logging.WARNING):
        loaded = classifier(tmp_path / "w.safetensors").backbone.state_dict()
    assert loaded["head.weight"].shape == (4, 32)
    assert torch.equal(loaded["blocks.1.attn.qkv.weight"], weights["blocks.1.attn.qkv.weight"])
    assert "the head (head.bias, head.weight) does not fit and was made anew" in caplog.text


def test_anything_else_that_does_not_fit_is_an_error_that_names_it(tmp_path: Path) -> None:
    save_file(state(depth=3), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"12 weights do not fit VisionTransformer; 'blocks\.2\.attn\.proj\.bias'"):
        classifier(tmp_path / "w.safetensors")
    save_file(state(embed_dim=64), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"is \(64,\) in the file, the model has \(32,\)|has \(32, "):
        classifier(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_files_that_hold_no_weights_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"{name}: no such"):
        classifier(tmp_path / name)
    (tmp_path / name).write_bytes(b"garbage")
    with pytest.raises(ModelError, match=f"{name}: not a"):
        classifier(tmp_path / name)


def test_a_pickle_bomb_does_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "boom"),)

    (tmp_path / "w.pth").write_bytes(pickle.dumps({"state_dict": Bomb()}))
    torch.save({"state_dict": Bomb()}, tmp_path / "zip.pth")
    for name in ("w.pth", "zip.pth"):
        with pytest.raises(ModelError, match=name):
            classifier(tmp_path / name)
    assert not (tmp_path / "boom").exists()


def test_pretrained_and_weights_contradict() -> None:
    with pytest.raises(ModelError, match="not both"):
        ViTClassifier(MODEL, pretrained=True, weights="w.safetensors")
