"""One exported graph gives what `agcam.explain` gives: in onnxruntime, in OpenVINO, in torch without agcam."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from torch import nn

import agcam
from agcam.cli.train import main
from agcam.errors import ModelError
from agcam.training import graph_export
from agcam.training.classifier import ViTClassifier
from agcam.training.graph_export import GraphOptions, make_onnx, make_program
from small_checkpoint import save, small_classifier

FAMILIES: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {},
    "deit_tiny_distilled_patch16_224": {},
    "vit_small_patch14_reg4_dinov2": {"side": 56},  # registers, layer scale
    "eva02_tiny_patch14_224": {"side": 56, "depth": 1},  # rotary embedding, average of tokens
    "vit_base_patch16_siglip_224": {"depth": 1},  # attention pooling
    "beit_base_patch16_224": {"depth": 1},  # score bias
    "cait_xxs24_224": {"depth": 1},  # class attention
}


def check(found: Sequence[Any], model: ViTClassifier, images: torch.Tensor, targets: Any = None) -> None:
    if targets is None:
        logits, chosen, maps = (torch.from_numpy(np.asarray(each)) for each in found)
        assert torch.equal(chosen, model(images).topk(chosen.shape[1]).indices)
    else:
        (logits, maps), chosen = (torch.from_numpy(np.asarray(each)) for each in found), targets
    expected = agcam.explain(model, images, chosen)
    assert expected.heatmaps.abs().max() > 1e-3
    assert (logits - expected.logits).abs().max() <= 1e-4
    assert maps.shape == expected.heatmaps.shape
    assert (maps - expected.heatmaps).abs().max() <= 1e-4


@pytest.mark.parametrize("backbone", FAMILIES)
@torch.no_grad()
def test_onnxruntime_and_openvino_give_what_explain_gives(backbone: str) -> None:
    model = small_classifier(backbone, **FAMILIES[backbone])
    graph, difference = make_onnx(model, GraphOptions(top=2))
    assert max(difference.logits, difference.heatmaps) <= 1e-4
    session = onnxruntime.InferenceSession(graph)
    vino = openvino.compile_model(openvino.Core().read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    side = model.input_config.size
    for count in (1, 3):
        images = torch.randn(count, 3, side, side)
        check(session.run(None, {"images": images.numpy()}), model, images)
        check(list(vino({"images": images.numpy()}).values()), model, images)


def test_layers_run_once_the_last_for_the_row_that_is_read_and_no_token_is_copied_for_heatmaps() -> None:
    nodes = make_program(small_classifier(), GraphOptions(top=2)).graph.nodes
    forward, gradient = (
        [str(node.meta["val"].shape[0]) for node in nodes if node.target is operation]
        for operation in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default)
    )
    (batch,) = {rows for rows in forward if "*" not in rows}
    assert forward == [f"17*{batch}"] * 5 + [batch] * 4  # of two blocks, each of four layers, and the head
    assert gradient == [f"2*{batch}"] * 7  # of all but those that make queries, keys and values
    copies = [node.meta["val"].shape for node in nodes if node.target is torch.ops.aten.clone.default]
    # the first block's queries, keys, values and answers; the last one's keys and values: heatmaps copy none of them
    assert sum(16 in shape or 17 in shape for shape in copies) == 6


class Flat(nn.Module):
    """A layer that is given the tokens of all images as one list."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.inner(tokens.reshape(-1, tokens.shape[-1])).reshape(tokens.shape)


@pytest.mark.parametrize(
    "backbone", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "vit_base_patch16_gap_224"]
)
@torch.no_grad()
def test_layers_that_see_images_and_tokens_in_one_dimension_are_run_again(backbone: str) -> None:
    model = small_classifier(backbone)
    for block in model.backbone.blocks:
        block.mlp = Flat(block.mlp)
    session = onnxruntime.InferenceSession(make_onnx(model, GraphOptions(top=2))[0])
    images = torch.randn(3, 3, 64, 64)
    check(session.run(None, {"images": images.numpy()}), model, images)


@torch.no_grad()
def test_given_classes_are_a_second_input_of_any_number() -> None:
    model = small_classifier()
    session = onnxruntime.InferenceSession(make_onnx(model, GraphOptions(top=None))[0])
    assert [entry.name for entry in session.get_inputs()] == ["images", "targets"]
    for targets in (torch.tensor([[4]]), torch.tensor([[0, 1, 2, 3], [4, 0, 0, 1], [2, 2, 1, 0]])):
        images = torch.randn(len(targets), 3, 64, 64)
        check(session.run(None, {"images": images.numpy(), "targets": targets.numpy()}), model, images, targets)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(small_classifier(), tmp_path_factory.mktemp("graph") / "last.ckpt")


@torch.no_grad()
def test_a_torch_graph_runs_in_a_process_without_agcam(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert (
        main(["export", "--ckpt_path", str(checkpoint), "--output", str(out), "--format", "torch", "--top", "2"]) == 0
    )
    model = ViTClassifier.from_checkpoint(checkpoint)
    for count in (1, 3):
        images = torch.randn(count, 3, 64, 64)
        torch.save(images, tmp_path / "images.pt")
        script = (
            "import sys, torch; sys.modules['agcam'] = None; graph = torch.export.load(sys.argv[1]).module();"
            "torch.save(list(graph(torch.load(sys.argv[2]))), sys.argv[3])"
        )
        files = [out / "model.pt2", tmp_path / "images.pt", tmp_path / "found.pt"]
        subprocess.run([sys.executable, "-c", script, *map(str, files)], check=True, cwd=tmp_path)
        check(torch.load(files[2]), model, images)


@torch.no_grad()
def test_the_command_writes_bytes_in_and_describes_the_graph(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["export", "--ckpt_path", str(checkpoint), "--output", str(out), "--format", "onnx", "--uint8"]) == 0
    assert "differs from agcam.explain by at most" in capsys.readouterr().out
    about = json.loads((out / "model.json").read_text())
    assert about["class_names"] == [f"beetle {i}" for i in range(5)]
    assert (about["inputs"], about["outputs"]) == (["images"], ["logits", "targets", "heatmaps"])
    content = (out / "model.onnx").read_bytes()
    assert b"/agcam/" not in content  # no path of this machine
    session = onnxruntime.InferenceSession(content)
    assert json.loads(session.get_modelmeta().custom_metadata_map["agcam"]) == about
    pixels = torch.randint(256, (2, 64, 64, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(about["image"][name]).view(3, 1, 1) for name in ("mean", "std"))
    images = (pixels.permute(0, 3, 1, 2) / 255 - mean) / std
    check(session.run(None, {"images": pixels.numpy()}), ViTClassifier.from_checkpoint(checkpoint), images)


@pytest.mark.parametrize(("precision", "size", "error"), [("fp16", 0.9, 0.02), ("int8", 0.95, 0.5)])
def test_smaller_precisions_are_smaller_files_with_a_known_error(precision: Any, size: float, error: float) -> None:
    model = small_classifier()
    small, difference = make_onnx(model, GraphOptions(precision=precision))
    assert len(small) < size * sum(parameter.nbytes for parameter in model.parameters())
    assert 1e-6 < max(difference.logits, difference.heatmaps) < error


def test_a_graph_that_differs_is_not_written(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_export, "TOLERANCE", 0.0)
    with pytest.raises(ModelError, match=r"the graph differs from agcam\.explain by .* nothing is written"):
        graph_export.export_torch(ViTClassifier.from_checkpoint(checkpoint), tmp_path / "out", GraphOptions())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top", "2"], "--top goes with --format onnx, torch or web"),
        (["--format", "web", "--given-targets"], "--given-targets goes with --format onnx or torch"),
        (["--format", "web", "--onnxruntime-web", "none.tgz"], "none.tgz: no such file; `npm pack"),
        (["--onnxruntime-web", "x.tgz"], "--onnxruntime-web goes with --format web"),
        (["--format", "onnx", "--top", "9"], "--top 9: the model has 5 classes"),
        (["--format", "torch", "--precision", "fp16"], "--precision fp16 goes with --format onnx"),
        (["--format", "onnx", "--top", "2", "--given-targets"], "not allowed with"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    options: list[str], message: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--ckpt_path", str(checkpoint), "--output", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_package_is_one_line_that_names_the_extra(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript.optimizer", None)
    command = ["export", "--ckpt_path", str(checkpoint), "--output", str(tmp_path / "out"), "--format", "onnx"]
    assert main(command) == 2
    assert "onnxscript, which is not installed: pip install 'agcam[export]'" in capsys.readouterr().err
