"""`agcam images --clip`: texts on photographs, by models with random weights that the tests write."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file

from agcam.cli.explain import main
from agcam.errors import ModelError
from agcam.training.zero_shot import load_clip

TEXTS = ["a kingfisher", "a heron", "a duck"]
SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}


@pytest.fixture(scope="module")
def of_open_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("open_clip")
    vision = {"image_size": 32, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(0)
    model = open_clip.CLIP(**config)
    save_file(dict(model.state_dict()), folder / "open_clip_model.safetensors")
    means = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": means}))
    return f"local-dir:{folder}"


VISION = {**SMALL, "image_size": 32, "patch_size": 8}
WORDS = ["<|startoftext|>", "<|endoftext|>", *"abcdefghijklmnopqrstuvwxyz"]
WORDS += [f"{letter}</w>" for letter in WORDS[2:]]
TEXT = {**SMALL, "vocab_size": len(WORDS), "max_position_embeddings": 20, "bos_token_id": 0, "eos_token_id": 1}


def write_transformers(folder: Path, model: torch.nn.Module) -> str:
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    files = str(folder / "vocab.json"), str(folder / "merges.txt")
    transformers.CLIPTokenizer(*files, model_max_length=20).save_pretrained(folder)
    model.save_pretrained(folder)
    transformers.CLIPImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4]).save_pretrained(folder)
    return f"hf:{folder}"


@pytest.fixture(scope="module")
def of_transformers(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = transformers.CLIPConfig(text_config={**TEXT, "pad_token_id": 1}, vision_config=VISION, projection_dim=16)
    torch.manual_seed(0)
    return write_transformers(tmp_path_factory.mktemp("transformers"), transformers.CLIPModel(config))


@pytest.fixture(scope="module")
def of_siglip(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = transformers.SiglipConfig(text_config={**TEXT, "pad_token_id": 1}, vision_config=VISION)
    torch.manual_seed(0)
    model = transformers.SiglipModel(config)
    with torch.no_grad():
        model.logit_bias.fill_(-0.7)
    return write_transformers(tmp_path_factory.mktemp("siglip"), model)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "bird.png")
    return tmp_path / "bird.png"


@pytest.mark.parametrize("library", ["of_open_clip", "of_transformers"])
def test_each_text_is_explained(library: str, request: pytest.FixtureRequest, photo: Path, tmp_path: Path) -> None:
    name, out = request.getfixturevalue(library), tmp_path / "out"
    given = ["--clip", name, "--text", *TEXTS, "--input", str(photo), "--output", str(out), "--device", "cpu"]
    assert main(["images", *given]) == 0
    (prediction,) = json.loads((out / "predictions.json").read_text())["images"]
    assert sorted(found["class"] for found in prediction["classes"]) == sorted(TEXTS)
    assert sum(found["probability"] for found in prediction["classes"]) == pytest.approx(1)
    heatmaps = np.load(out / "bird.npz")["heatmaps"]
    assert heatmaps.shape == (3, 4, 4)
    assert heatmaps.max((1, 2)).min() > 0
    assert all((out / found["overlay"]).is_file() for found in prediction["classes"])


def test_images_are_resized_as_the_model_was_trained(
    of_transformers: str, of_siglip: str, of_open_clip: str, tmp_path: Path
) -> None:
    assert load_clip(of_transformers, TEXTS).input_config.resize == "center_crop"
    assert load_clip(of_open_clip, TEXTS).input_config.resize == "center_crop"
    folder = shutil.copytree(of_siglip.removeprefix("hf:"), tmp_path / "siglip")
    transformers.SiglipImageProcessor(resample=2).save_pretrained(folder)
    found = load_clip(f"hf:{folder}", TEXTS).input_config
    assert (found.resize, found.interpolation) == ("squash", "bilinear")
    folder = shutil.copytree(of_open_clip.removeprefix("local-dir:"), tmp_path / "open_clip")
    config = json.loads((folder / "open_clip_config.json").read_text())
    for mode, expected in (("squash", "squash"), ("longest", "")):
        config["preprocess_cfg"]["resize_mode"] = mode
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        if expected:
            assert load_clip(f"local-dir:{folder}", TEXTS).input_config.resize == expected
        else:
            with pytest.raises(ModelError, match="resized by 'longest'"):
                load_clip(f"local-dir:{folder}", TEXTS)


def test_logits_are_those_of_open_clip(of_open_clip: str) -> None:
    loaded, images = load_clip(of_open_clip, TEXTS), torch.randn(2, 3, 32, 32)
    assert (loaded.input_config.mean, loaded.input_config.size) == ((0.4, 0.5, 0.6), 32)
    clip = open_clip.create_model(of_open_clip).eval()
    expected, _ = clip.get_logits(images, open_clip.get_tokenizer(of_open_clip)(TEXTS))
    torch.testing.assert_close(loaded.model(images), expected)


def test_logits_are_those_of_transformers(of_transformers: str) -> None:
    loaded, images = load_clip(of_transformers, TEXTS), torch.randn(2, 3, 32, 32)
    assert (loaded.input_config.std, loaded.input_config.size) == ((0.2, 0.3, 0.4), 32)
    folder = of_transformers.removeprefix("hf:")
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    expected = transformers.AutoModel.from_pretrained(folder).eval()(pixel_values=images, **tokens).logits_per_image
    torch.testing.assert_close(loaded.model(images), expected)


def test_a_siglip_says_yes_or_no_to_each_text(of_siglip: str, photo: Path, tmp_path: Path) -> None:
    loaded, images = load_clip(of_siglip, TEXTS), torch.randn(2, 3, 32, 32)
    folder, settings = of_siglip.removeprefix("hf:"), {"padding": "max_length", "return_tensors": "pt"}
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, **settings)["input_ids"]
    assert tokens.shape == (3, 20)
    siglip = transformers.AutoModel.from_pretrained(folder).eval()
    expected = siglip(pixel_values=images, input_ids=tokens).logits_per_image
    torch.testing.assert_close(loaded.model(images), expected, rtol=1e-4, atol=1e-4)
    given = ["--clip", of_siglip, "--text", TEXTS[0], "--input", str(photo), "--output", str(tmp_path / "out")]
    assert main(["images", *given, "--device", "cpu"]) == 0
    (prediction,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    assert 0 < prediction["classes"][0]["probability"] < 1  # of one text a softmax would be sure


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--clip", "ViT-B-32/openai"], "--clip needs --text"),
        (["--clip", "ViT-B-32", "--text", "a"], "names no weights: expected MODEL/WEIGHTS; its weights are openai, "),
        (["--backbone", "vit_tiny_patch16_224", "--text", "a"], "--text goes with --clip"),
        (["--clip", "ViT-B-32/openai", "--text", "a", "--pretrained"], "--clip names its own weights"),
        (["--clip", "hf:/nowhere", "--text", "a"], "hf:/nowhere cannot be loaded"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    given: list[str], message: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["images", *given, "--input", str(photo), "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
