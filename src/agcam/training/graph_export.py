"""Write a classifier with its heatmaps as one graph, for torch or for ONNX runtimes, compared with `explain` first."""

from __future__ import annotations

import importlib
import io
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export import ExportedProgram

from agcam import __version__
from agcam.errors import InputError, ModelError, brief
from agcam.explainers.explain import explain
from agcam.explainers.traced import trace_heatmaps
from agcam.io.atomic import write_whole
from agcam.training.classifier import ViTClassifier

Precision = Literal["fp32", "fp16", "int8"]
Run = Callable[..., list[Tensor]]
"""From the inputs of a graph to its outputs."""

DESCRIPTION = "model.json"
TOLERANCE = 1e-4
"""Largest difference of a graph in float32 from `explain`, as a share of the largest logit or value of a heatmap."""
_MOST_BYTES = 2**31 - 2**24  # of an ONNX file


@dataclass(frozen=True)
class GraphOptions:
    """What a graph takes and gives.

    Attributes:
        top: how many of the most probable classes are explained; None takes the classes as second input.
        uint8: whether images enter as uint8 (B, H, W, 3), of the model's size; else as floats (B, 3, H, W), normalized.
        precision: "fp32"; "fp16" computes in half precision, "int8" keeps weights as bytes, both in ONNX alone.
    """

    top: int | None = 3
    uint8: bool = False
    precision: Precision = "fp32"


@dataclass(frozen=True)
class Difference:
    """How far a graph is from `explain`, at most, over the compared images.

    Attributes:
        logits: as a share of the largest logit.
        heatmaps: as a share of the largest value of the heatmaps.
    """

    logits: float
    heatmaps: float


def export_torch(model: ViTClassifier, folder: Path, options: GraphOptions) -> Difference:
    """Write `model.pt2`, which `torch.export.load` reads without agcam, and `model.json`.

    Raises:
        ModelError: if the model cannot be exported, or the graph differs from `explain`.
    """
    if options.precision != "fp32":
        raise InputError(f"--precision {options.precision} goes with --format onnx; torch graphs are fp32")
    program = make_program(model, options)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    reloaded = torch.export.load(file).module()
    difference = compare(model, options, lambda *inputs: list(reloaded(*inputs)))
    write_whole(folder / "model.pt2", file.getvalue())
    write_whole(folder / DESCRIPTION, _json(describe(model, options, difference)))
    return difference


def export_onnx(model: ViTClassifier, folder: Path, options: GraphOptions) -> Difference:
    """Write `model.onnx` and `model.json`.

    Raises:
        InputError: if a package of the extra `export` is missing.
        ModelError: if the model cannot be exported, or the graph in float32 differs from `explain`.
    """
    graph, difference = make_onnx(model, options)
    write_whole(folder / "model.onnx", graph)
    write_whole(folder / DESCRIPTION, _json(describe(model, options, difference)))
    return difference


def make_onnx(model: ViTClassifier, options: GraphOptions) -> tuple[bytes, Difference]:
    """Make the ONNX file, and tell how far it is from `explain`; raises as `export_onnx`."""
    onnx, onnxscript = _needed("onnx"), _needed("onnxscript.optimizer")
    if sum(parameter.nbytes for parameter in model.parameters()) > _MOST_BYTES:
        raise ModelError("the model has more than 2 GB of weights, which no ONNX file holds; take --format torch")
    program = make_program(model, options)
    # everything is taken apart already: torch would trace it all twice again, minutes for nothing
    program.run_decompositions = lambda *_, **__: program
    inputs, outputs = _names(options)
    try:
        made = torch.onnx.export(
            program, input_names=inputs, output_names=outputs, dynamo=True, verbose=False, optimize=False
        )
        assert made is not None
        # all that its optimizer would also look for, runtimes fuse when they load a file; it takes minutes
        onnxscript.fold_constants(made.model)
        onnxscript.remove_unused_nodes(made.model)
        graph: Any = made.model_proto
        for node in graph.graph.node:  # where each came from, with paths of this machine: most of a small file
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
        graph = _reduced(graph, options.precision)
    except Exception as error:  # whatever has no operation there
        raise ModelError(
            f"{model.hparams['backbone']} cannot be exported to ONNX ({type(error).__name__}: {brief(error)})"
        ) from error
    difference = compare(model, options, _onnx_run(graph.SerializeToString()))
    entry = graph.metadata_props.add()
    entry.key, entry.value = "agcam", json.dumps(describe(model, options, difference), ensure_ascii=False)
    onnx.checker.check_model(graph)
    return graph.SerializeToString(), difference


def make_program(model: ViTClassifier, options: GraphOptions) -> ExportedProgram:
    """Trace logits and heatmaps of a classifier, with what the options put around it.

    Raises:
        InputError: for more classes than there are.
        ModelError: if it cannot be traced.
    """
    if options.top is not None and not 1 <= options.top <= len(model.class_names):
        raise InputError(f"--top {options.top}: the model has {len(model.class_names)} classes")
    model = model.float()
    prepare = (lambda images: normalized(model, images)) if options.uint8 else None
    return trace_heatmaps(model, _examples(model, options, 1), options.top, prepare)


def normalized(model: ViTClassifier, images: Tensor) -> Tensor:
    """Make of images (B, H, W, 3) uint8 what the model takes, (B, 3, H, W) float, as its data's transform does."""
    config = model.input_config
    mean, std = (torch.tensor(values).mul(255).view(3, 1, 1) for values in (config.mean, config.std))
    return (images.permute(0, 3, 1, 2).float() - mean) / std


@torch.no_grad()
def compare(model: ViTClassifier, options: GraphOptions, run: Run) -> Difference:
    """Compare a graph with `explain` on noise and on smooth pictures, alone and three at once.

    Raises:
        ModelError: if what it gives is not finite, or in float32 differs by more than `TOLERANCE`.
    """
    logits, heatmaps = 0.0, 0.0
    for count in (1, 3):
        for images in (_examples(model, options, count), _examples(model, options, count, smooth=True)):
            given = normalized(model, images) if options.uint8 else images
            if options.top is None:
                targets = torch.arange(2 * count).reshape(count, 2) % len(model.class_names)
                found_logits, found = run(images, targets)
            else:
                found_logits, targets, found = run(images)
            expected = explain(model, given, targets)
            logits = max(logits, _share(found_logits, expected.logits))
            heatmaps = max(heatmaps, _share(found, expected.heatmaps))
            if options.top is not None:  # two classes may be as probable as each other
                chosen, best = (t.sort(1).values for t in (found_logits.gather(1, targets), found_logits))
                logits = max(logits, _share(chosen, best[:, -targets.shape[1] :]))
    difference = Difference(logits, heatmaps)
    limit = TOLERANCE if options.precision == "fp32" else float("inf")
    if not max(logits, heatmaps) <= limit or max(logits, heatmaps) == float("inf"):
        raise ModelError(
            f"{model.hparams['backbone']} cannot be exported: the graph differs from agcam.explain by {logits:.2g} "
            f"of the largest logit and {heatmaps:.2g} of the largest heatmap value, more than {limit:g}; nothing is "
            "written"
        )
    return difference


@torch.no_grad()
def covered_pixels(model: ViTClassifier) -> tuple[int, int]:
    """Return height and width of the part of an image, from its upper left pixel on, that heatmaps cover."""
    found = explain(model, _examples(model, GraphOptions(), 1))
    side = model.input_config.size
    return found.extent or (side, side)


def describe(model: ViTClassifier, options: GraphOptions, difference: Difference) -> dict[str, Any]:
    """Collect what is needed to use a graph: its inputs and outputs, classes, and how images are prepared."""
    inputs, outputs = _names(options)
    return {
        "agcam": __version__,
        "backbone": model.hparams["backbone"],
        "inputs": inputs,
        "outputs": outputs,
        "uint8": options.uint8,
        "top": options.top,
        "precision": options.precision,
        "differs_from_explain": {"logits": difference.logits, "heatmaps": difference.heatmaps},
        "image": model.input_config.to_dict(),
        "multilabel": model.multilabel,
        "class_names": list(model.class_names),
    }


def _names(options: GraphOptions) -> tuple[list[str], list[str]]:
    if options.top is None:
        return ["images", "targets"], ["logits", "heatmaps"]
    return ["images"], ["logits", "targets", "heatmaps"]


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _share(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest value; infinity if a value is none."""
    if found.shape != expected.shape or not bool(torch.isfinite(found).all()):
        return float("inf")
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6))


def _examples(model: ViTClassifier, options: GraphOptions, count: int, smooth: bool = False) -> Tensor:
    """Draw images as the graph takes them: noise, or its like at a sixteenth of the size, enlarged."""
    generator = torch.Generator().manual_seed(count)
    side = model.input_config.size
    drawn = (max(2, side // 16),) * 2 if smooth else (side, side)
    images = F.interpolate(torch.rand(count, 3, *drawn, generator=generator), (side, side), mode="bilinear")
    pixels = images.mul(255).round().byte().permute(0, 2, 3, 1).contiguous()
    return pixels if options.uint8 else normalized(model, pixels).contiguous()


def _reduced(graph: Any, precision: Precision) -> Any:
    """Return an ONNX model in another precision, made by onnxruntime's own tools."""
    if precision == "fp16":
        half = _needed("onnxruntime.transformers.float16")
        # its mean and deviation are float32 in any precision, which the tool does not know
        kept = [*half.DEFAULT_OP_BLOCK_LIST, "LayerNormalization"]
        made = half.convert_float_to_float16(graph, keep_io_types=True, op_block_list=kept)
        _needed("onnxruntime.transformers.onnx_model").OnnxModel(made).topological_sort()
        return made
    if precision == "int8":
        quantization = _needed("onnxruntime.quantization")
        prepare = _needed("onnxruntime.quantization.shape_inference").quant_pre_process
        onnx = _needed("onnx")
        with tempfile.TemporaryDirectory() as folder:  # the tools go by files
            whole, ready, small = (Path(folder) / f"{name}.onnx" for name in ("whole", "ready", "small"))
            onnx.save(graph, whole)
            prepare(whole, ready, skip_symbolic_shape=True)  # weights are constants then, not their transposes
            quantization.quantize_dynamic(
                ready,
                small,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                op_types_to_quantize=["MatMul"],
            )
            return onnx.load(small)
    return graph


def _onnx_run(graph: bytes) -> Run:
    runtime = _needed("onnxruntime")
    session = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(*inputs: Tensor) -> list[Tensor]:
        given = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.from_numpy(output) for output in session.run(None, given)]

    return run


def _needed(package: str) -> ModuleType:
    """Import a package of the extra `export`.

    Raises:
        InputError: if it is not installed.
    """
    with suppress(ImportError):
        return importlib.import_module(package)
    raise InputError(
        f"--format onnx needs {package.partition('.')[0]}, which is not installed: pip install 'agcam[export]'"
    )
