"""A model goes to the hub and comes back the same, by the hub's own client and a stand-in for its server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import torch
from huggingface_hub.constants import ENDPOINT, HUGGINGFACE_CO_URL_TEMPLATE
from PIL import Image

from agcam.cli.main import main
from agcam.errors import InputError, ModelError
from agcam.training.backbone import make_backbone
from agcam.training.loaded import open_classifier
from agcam.training.remote import fetch, is_remote, push
from hub_stand_in import Hub, hub_stand_in
from small_checkpoint import save, small_classifier

NAME = "birds-lab/beetles"
FILES = ["README.md", "class_names.txt", "config.json", "heatmaps.png", "model.safetensors"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_stand_in() as found:
        # what the variable HF_ENDPOINT sets when the client is imported, which timm does
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", found.address)
        template = HUGGINGFACE_CO_URL_TEMPLATE.replace(ENDPOINT, found.address)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield found


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmark"
    (folder / "figures").mkdir(parents=True)
    (folder / "results.md").write_text(
        "# Side by side\n\n| method | iou |\n|---|--:|\n| agcam | 0.4 |\n| random | 0.3 |\n"
    )
    Image.new("RGB", (8, 8)).save(folder / "figures/grid.png")
    return folder


@torch.no_grad()
def test_what_is_pushed_comes_back_the_same(
    hub: Hub, benchmark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_classifier(classes=3)
    checkpoint = save(model, tmp_path / "run" / "checkpoints" / "best.ckpt")
    (tmp_path / "run" / "config.yaml").write_text(
        "data: {class_path: agcam.data.CUB200, init_args: {root: /home/me}}\n"
    )
    out = tmp_path / "out"
    command = ["export", "--ckpt_path", checkpoint, "--output", out, "--push", NAME, "--benchmark", benchmark]
    assert main([str(word) for word in command]) == 0
    number, files = hub.models[NAME][-1]
    assert sorted(files) == FILES
    assert f"pushed {hub.address}/{NAME}/commit/{number}" in capsys.readouterr().out
    card = files["README.md"].decode()
    assert "TO BE FILLED IN by whoever publishes" in card
    assert "license:" not in card.split("---")[1]
    assert "| random | 0.3 |" in card
    assert "`agcam.data.CUB200`" in card
    assert "beetle 0, beetle 1, beetle 2" in card
    assert "/home/me" not in card
    assert json.loads(files["config.json"])["label_names"] == model.class_names

    images = torch.randn(2, 3, 64, 64)
    for name in (f"hf-hub:{NAME}", f"hf-hub:{NAME}@{number[:7]}"):
        opened = open_classifier(Path(name))
        assert torch.equal(opened(images), model(images))
        assert (opened.class_names, opened.multilabel) == (model.class_names, False)
        assert opened.input_config == replace(model.input_config, crop_pct=1.0)  # of whole images nothing is cropped
    backbone = make_backbone({**model.hparams, "weights": f"hf-hub:{NAME}"}, 3).eval()
    assert torch.equal(backbone(images), model(images))

    photo = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)).save(photo)
    for source, output in ((f"hf-hub:{NAME}", "hub"), (str(checkpoint), "file")):
        words = ["images", "--checkpoint", source, "--input", photo, "--output", tmp_path / output, "--device", "cpu"]
        assert main([str(word) for word in words]) == 0
    with np.load(tmp_path / "hub/a.npz") as one, np.load(tmp_path / "file/a.npz") as other:
        assert np.array_equal(one["heatmaps"], other["heatmaps"])

    assert main(["test", "--data=Shapes", f"--trainer.default_root_dir={tmp_path}", f"--ckpt_path=hf-hub:{NAME}"]) == 2
    assert f"holds weights alone; start from them: --model.weights hf-hub:{NAME}" in capsys.readouterr().err

    (out / "README.md").write_text("Mine.")
    assert main([str(word) for word in command]) == 0
    assert hub.models[NAME][-1][1]["README.md"] == b"Mine."


def test_what_cannot_be_fetched_or_pushed_is_one_sentence(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match=r"hf-hub:birds-lab/none cannot be fetched \(RepositoryNotFoundError"):
        fetch("hf-hub:birds-lab/none")
    hub.models[NAME] = [("0" * 40, {"notes.txt": b""})]
    with pytest.raises(ModelError, match=r"hf-hub:birds-lab/beetles: no config\.json in it"):
        fetch(f"hf-hub:{NAME}")
    with pytest.raises(ModelError, match=r"beetles@v9 cannot be fetched \(RevisionNotFoundError"):
        fetch(f"hf-hub:{NAME}@v9")
    for name in ("hf-hub:beetles", "hf-hub:a/b/c", "hf-hub:a/b@", "wandb-artifact:beetles"):
        with pytest.raises(InputError, match="expected"):
            fetch(name)
    with pytest.raises(InputError, match=r"--push beetles: expected OWNER/NAME"):
        push(tmp_path, "beetles", [])
    args = ["export", "--ckpt_path", str(tmp_path / "a.ckpt"), "--output", str(tmp_path), "--format", "onnx"]
    assert main([*args, "--push", NAME]) == 2
    assert "--push and --benchmark go with --format timm" in capsys.readouterr().err


def test_a_name_of_the_hub_is_the_same_where_paths_have_other_slashes() -> None:
    path = PureWindowsPath("hf-hub:owner/name/more")
    assert is_remote(path)
    with pytest.raises(InputError, match=r"^hf-hub:owner/name/more: expected"):
        fetch(path)
