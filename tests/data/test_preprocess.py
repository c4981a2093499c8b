"""`agcam.preprocess`: the very pixels that `agcam images` feeds to the model."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

import agcam
from agcam.cli.images import explain_images
from agcam.data.input_config import InputConfig, Resize
from agcam.errors import DataError, InputError
from agcam.training.classifier import ViTClassifier
from agcam.training.loaded import LoadedModel, load_timm

ARGS = {"patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}
SMALL = ARGS | {"img_size": 32}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Large and small ones, upright and not, of one channel and of four."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    pixels = rng.integers(0, 255, (90, 60, 4)).astype(np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels[..., :3]).save(folder / "turned.jpg", exif=turned)
    Image.fromarray(pixels).save(folder / "alpha.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 200).save(folder / "deep.png")
    Image.fromarray(pixels[:20, :30, :3]).save(folder / "small.gif")
    return sorted(folder.iterdir())


def fed(subject: LoadedModel, photos: list[Path], output: Path) -> Tensor:
    """What `agcam images` gives to the patch embedding."""
    seen: list[Tensor] = []
    embedding = next(module for module in subject.model.modules() if isinstance(module, timm.layers.PatchEmbed))
    hook = embedding.register_forward_pre_hook(lambda module, given: seen.append(given[0].clone()))
    outcome = explain_images(subject, photos, output, batch_size=3, workers=2)
    hook.remove()
    assert not outcome.errors
    assert len(torch.cat(seen)) == len(photos)
    return torch.cat(seen)


@pytest.mark.parametrize("resize", ["squash", "center_crop"])
def test_a_classifier_gets_what_the_command_feeds(resize: Resize, photos: list[Path], tmp_path: Path) -> None:
    config = InputConfig(32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bilinear", 0.8, resize)
    model = ViTClassifier(
        "vit_tiny_patch16_224", backbone_args=SMALL, class_names=["a", "b"], multilabel=False, input=config.to_dict()
    ).eval()
    subject = LoadedModel(model, ["a", "b"], config)
    expected = fed(subject, photos, tmp_path)
    for prepare in (agcam.preprocess(model), agcam.preprocess(subject), agcam.preprocess(nn.Sequential(model))):
        assert torch.equal(torch.stack([prepare(path) for path in photos]), expected)
        opened = [Image.open(path) for path in photos]
        assert torch.equal(torch.stack([prepare(image) for image in opened]), expected)
        assert prepare(str(photos[0])).dtype == torch.float32


def test_a_model_of_timm_gets_what_the_command_feeds(photos: list[Path], tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224.augreg_in21k"  # of mean and standard deviation of its own
    subject = load_timm(name, pretrained=False)
    expected = fed(subject, photos[:2], tmp_path)
    bare = timm.create_model(name)
    for model in (bare, nn.Sequential(bare)):
        prepare = agcam.preprocess(model)
        assert prepare.config == subject.input_config
        assert torch.equal(torch.stack([prepare(path) for path in photos[:2]]), expected)
    assert agcam.preprocess(timm.create_model(name, **SMALL))(photos[0]).shape == (3, 32, 32)


def test_arrays_threads_and_workers(photos: list[Path]) -> None:
    prepare = agcam.preprocess(timm.create_model("vit_tiny_patch16_224", **SMALL))
    array = np.array(Image.open(photos[0]).convert("RGB"))
    expected = prepare(array)
    assert torch.equal(pickle.loads(pickle.dumps(prepare))(array), expected)
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(found, expected) for found in pool.map(prepare, [array] * 20))


def test_what_cannot_be_prepared_is_refused_in_a_sentence(tmp_path: Path) -> None:
    prepare = agcam.preprocess(timm.create_model("vit_tiny_patch16_224", **SMALL))
    with pytest.raises(DataError, match=r"gone\.png: no such image"):
        prepare(tmp_path / "gone.png")
    Image.effect_noise((64, 64), 50).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:900])
    with pytest.raises(DataError, match=r"cut\.png: it cannot be decoded"):
        prepare(Image.open(tmp_path / "cut.png"))
    with pytest.raises(InputError, match=r"expected a path, a PIL image or an array .* found float64 \(8, 8, 3\)"):
        prepare(np.zeros((8, 8, 3)))
    with pytest.raises(InputError, match="Linear does not say how its images must look"):
        agcam.preprocess(nn.Linear(2, 2))
    with pytest.raises(InputError, match="images of 32×64 pixels; agcam prepares squares alone"):
        agcam.preprocess(timm.create_model("vit_tiny_patch16_224", **ARGS | {"img_size": (32, 64)}))
