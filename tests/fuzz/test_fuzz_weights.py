"""Broken checkpoints, weights files and exported folders."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from harness import fuzz, fuzz_one_of, inputs
from hypothesis import strategies as st
from mutations import ODD_VALUES, broken_bytes, broken_json, broken_value

from agcam.training.classifier import ViTClassifier
from agcam.training.export import export, open_exported
from agcam.training.weights import load_weights

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch")  # of old pickles, of casts
MODEL: dict[str, Any] = {
    "backbone": "vit_tiny_patch16_224",
    "image_size": 16,
    "backbone_args": {"patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2},
    "class_names": ["a", "b"],
    "multilabel": False,
}
ODD_TENSORS = (
    torch.zeros(2),
    torch.zeros(1).expand(10**6),
    torch.zeros(2).to_sparse(),
    torch.zeros(2, dtype=torch.bool),
)
ODD_PARTS = (*ODD_VALUES, *ODD_TENSORS, [10**6], 10**6, "bce")


def classifier() -> ViTClassifier:
    torch.manual_seed(0)
    return ViTClassifier(**MODEL)


def checkpoint() -> dict[str, Any]:
    """As much of Lightning's as is read."""
    model = classifier()
    return {"state_dict": dict(model.state_dict()), "hyper_parameters": dict(model.hparams), "callbacks": {"x": {}}}


def saved(value: Any, **options: bool) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def with_pickle(archive: bytes, pickled: bytes) -> bytes:
    """A `torch.save`d archive with another pickle in it."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickled if name.endswith("data.pkl") else old.read(name))
    return out.getvalue()


@inputs(200)
def test_checkpoints(examples: int, tmp_path: Path) -> None:
    path, valid = tmp_path / "model.ckpt", checkpoint()
    whole = saved(valid)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        pickled = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    strategy = st.one_of(
        broken_bytes(whole),
        broken_bytes(pickled, most=2).map(lambda found: with_pickle(whole, found)),
        broken_value(valid, ODD_PARTS).map(saved),
        broken_bytes(saved(valid, _use_new_zipfile_serialization=False)),
    )

    def read(content: bytes) -> None:
        path.write_bytes(content)
        model = ViTClassifier.from_checkpoint(path)
        with torch.inference_mode():
            size = model.input_config.size
            assert model(torch.zeros(1, 3, size, size)).shape == (1, len(model.class_names))

    fuzz("checkpoints", strategy, read, path, examples)


@inputs(300)
def test_weights(examples: int, tmp_path: Path) -> None:
    backbone = classifier().backbone
    state = backbone.state_dict()
    stored = safetensors.torch.save(state)
    length = int.from_bytes(stored[:8], "little")

    def with_header(header: bytes) -> bytes:
        return len(header).to_bytes(8, "little") + header + stored[8 + length :]

    headers = broken_json(json.loads(stored[8 : 8 + length])).map(with_header)
    strategy = st.one_of(
        st.tuples(st.just("weights.safetensors"), st.one_of(broken_bytes(stored), headers)),
        st.tuples(st.just("weights.pth"), broken_value(dict(state), ODD_PARTS).map(saved)),
    )

    def read(found: tuple[str, bytes]) -> None:
        (tmp_path / found[0]).write_bytes(found[1])
        load_weights(backbone, tmp_path / found[0])

    fuzz("weights", strategy, read, tmp_path / "weights", examples)


@inputs(200)
def test_exported_folders(examples: int, tmp_path: Path) -> None:
    export(classifier(), tmp_path)
    config, stored = tmp_path / "config.json", tmp_path / "model.safetensors"
    fuzz_one_of(
        "exported folders",
        {
            config: broken_json(json.loads(config.read_text()), (*ODD_VALUES, [10**6], 10**6, ["a"] * 5)),
            stored: broken_bytes(stored.read_bytes()),
        },
        lambda: open_exported(tmp_path),
        tmp_path,
        examples,
    )
