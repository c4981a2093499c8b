"""`Explanation.save` and `load`: what comes back is what was there, and nothing else is taken for it."""

from __future__ import annotations

import resource
from dataclasses import fields, replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from agcam.errors import DataError, InputError, OutputError
from agcam.explainers.explain import explain
from agcam.explainers.explanation import Explanation
from agcam.explainers.model_info import ModelInfo
from explainers.small_models import random_images, small_model

INFO = ModelInfo(("großer Vogel", "a\nb", "", "wren", "heron"), (0.5, 0.4, 0.3), (0.1, 0.2, 0.7), True, True)


@pytest.fixture(scope="module")
def found() -> Explanation:
    return explain(small_model(), random_images(), "all")


def assert_same(loaded: Explanation, saved: Explanation) -> None:
    for name in (field.name for field in fields(Explanation)):
        one, other = getattr(loaded, name), getattr(saved, name)
        if isinstance(other, torch.Tensor):
            assert one.dtype == other.dtype, name
            assert torch.equal(one, other), name
        else:
            assert (one, type(one)) == (other, type(other)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_everything_comes_back_as_it_was(found: Explanation, dtype: torch.dtype, tmp_path: Path) -> None:
    logits = found.logits.to(dtype).requires_grad_()
    for number, saved in enumerate(
        [
            found,
            replace(found, logits=logits, model_info=INFO, scored=True, image_size=(32, 40), extent=(32, 32)),
            replace(found, logits=logits[:, :0], method="", image_size=None, extent=None),
        ]
    ):
        path = tmp_path / "new" / f"{number}.safetensors"
        saved.save(path)
        loaded = Explanation.load(str(path))
        assert_same(loaded, saved)
        assert loaded.placed.shape == saved.placed.shape
        assert not loaded.logits.requires_grad


def test_maps_that_share_memory_are_written_apart(found: Explanation, tmp_path: Path) -> None:
    saved = replace(
        found, heatmaps=found.heatmaps[:, :1].expand(-1, 5, -1, -1), targets=found.targets[:1].expand(2, -1)
    )
    saved.save(tmp_path / "e.safetensors")
    assert_same(Explanation.load(tmp_path / "e.safetensors"), saved)


def test_it_loads_onto_the_device_that_is_named(found: Explanation, tmp_path: Path) -> None:
    found.save(tmp_path / "e.safetensors")
    loaded = Explanation.load(tmp_path / "e.safetensors", device="meta")
    assert {loaded.logits.device.type, loaded.targets.device.type, loaded.heatmaps.device.type} == {"meta"}
    with pytest.raises(InputError, match="device warp: "):
        Explanation.load(tmp_path / "e.safetensors", device="warp")


def test_what_is_no_explanation_is_refused_in_a_sentence(found: Explanation, tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    with pytest.raises(DataError, match=r"e\.safetensors: no such file$"):
        Explanation.load(path)
    found.save(path)
    whole = path.read_bytes()
    for content in (b"", b"no tensors", whole[: len(whole) // 2], whole.replace(b'"heatmaps":', b'"heatmapz":')):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"not a whole safetensors file .*; expected a file that Explanation\.save"):
            Explanation.load(path)
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(DataError, match="a safetensors file without an explanation in it"):
        Explanation.load(path)
    for wrong in (
        whole.replace(rb"\"scored\": false", rb"\"scored\": 12345"),
        whole.replace(rb"\"scored\"", rb"\"skored\""),
        whole.replace(b'"shape":[2,5,4,4]', b'"shape":[5,2,4,4]'),
    ):
        path.write_bytes(wrong)
        with pytest.raises(DataError, match="an explanation that contradicts itself"):
            Explanation.load(path)


def test_a_file_that_cannot_be_written_leaves_what_was_there(found: Explanation, tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    found.save(path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # what a full disk does
    try:
        with pytest.raises(OutputError, match=r"e\.safetensors: cannot be written"):
            replace(found, scored=True).save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputError, match="cannot be written"):
        found.save(path / "beneath.safetensors")
