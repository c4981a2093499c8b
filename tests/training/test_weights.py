import logging
import os
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from agcam.errors import ModelError
from agcam.training.classifier import ViTClassifier

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
    assert "the head (head.bias, head.weight) does not fit and keeps its initial weights" in caplog.text


def test_anything_else_that_does_not_fit_is_an_error_that_names_it(tmp_path: Path) -> None:
    save_file(state(depth=1), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"12 weights do not fit VisionTransformer; 'blocks\.1\.attn\.proj\.bias'"):
        classifier(tmp_path / "w.safetensors")
    save_file(state(embed_dim=64), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"is \(64,\) in the file, the model has \(32,\)|has \(32, "):
        classifier(tmp_path / "w.safetensors")


def test_a_model_of_a_given_depth_takes_the_first_blocks_of_a_deeper_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = state(depth=4)
    save_file(weights, tmp_path / "w.safetensors")
    loaded = classifier(tmp_path / "w.safetensors").backbone.state_dict()
    assert all(torch.equal(loaded[key], weights[key]) for key in loaded)
    assert "the model has 2 blocks; the file's 2 above them are left out" in caplog.text


def test_a_deeper_model_than_is_asked_for_by_name_does_not_fit(tmp_path: Path) -> None:
    save_file(state(depth=13), tmp_path / "w.safetensors")
    args = {key: value for key, value in ARGS.items() if key != "depth"}
    names = {"class_names": ["a", "b"], "multilabel": False}
    with pytest.raises(ModelError, match=r"12 weights do not fit VisionTransformer; 'blocks\.12\.attn\.proj\.bias'"):
        ViTClassifier(MODEL, weights=str(tmp_path / "w.safetensors"), image_size=32, backbone_args=args, **names)


@pytest.mark.parametrize(("file", "patch"), [(32, 8), (48, 8), (64, 16)])
def test_weights_for_another_size_are_resampled_as_timm_does(
    file: int, patch: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(1)
    args = {"num_classes": 4, **(ARGS | {"patch_size": patch})}
    weights = timm.create_model(MODEL, img_size=file, **args).state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    loaded = classifier(tmp_path / "w.safetensors").backbone.state_dict()
    expected = timm.layers.resample_abs_pos_embed(weights["pos_embed"], (4, 4), num_prefix_tokens=1)
    assert torch.allclose(loaded["pos_embed"], expected, atol=1e-6)
    patches = timm.layers.resample_patch_embed(weights["patch_embed.proj.weight"], (8, 8))
    assert torch.allclose(loaded["patch_embed.proj.weight"], patches, atol=1e-6)
    assert ("pos_embed resampled from (1, 37, 32) to (1, 17, 32)" in caplog.text) == (file == 48)
    assert ("patch_embed.proj.weight resampled from" in caplog.text) == (patch == 16)


def test_a_trained_classifier_starts_another_at_a_higher_resolution(tmp_path: Path) -> None:
    weights = {f"backbone.{key}": value for key, value in state().items()}
    torch.save({"state_dict": weights}, tmp_path / "w.ckpt")
    names = [f"c{i}" for i in range(4)]
    args = {"backbone_args": ARGS, "class_names": names, "multilabel": False}
    larger = ViTClassifier(MODEL, weights=str(tmp_path / "w.ckpt"), image_size=64, **args)
    assert larger.input_config.size == 64
    assert torch.equal(larger.backbone.head.weight, weights["backbone.head.weight"])
    assert larger(torch.zeros(1, 3, 64, 64)).shape == (1, 4)


def test_a_size_that_nothing_can_be_resampled_to_is_one_line(tmp_path: Path) -> None:
    classes = {"class_names": ["a", "b"], "multilabel": False}
    small = {"mlp_ratio": (0.1, 0.1)}
    path = tmp_path / "w.safetensors"
    save_file(timm.create_model("mixer_s16_224", img_size=32, num_classes=2, **small).state_dict(), path)
    with pytest.raises(ModelError, match=r"weights do not fit MlpMixer; .*model\.image_size") as error:
        ViTClassifier("mixer_s16_224", weights=str(path), image_size=64, backbone_args=small, **classes)
    assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match=r"no Vision Transformer: choose one, .* leave out model\.image_size$"):
        ViTClassifier("resnet18", image_size=448, **classes)


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
