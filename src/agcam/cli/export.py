"""`agcam export`: its options and what it prints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agcam.cli.command_options import OneLineParser
from agcam.cli.data_config import find_config
from agcam.console.debug import add_debug
from agcam.errors import InputError
from agcam.io.yaml import read_yaml
from agcam.training.export import CLASS_NAMES, export
from agcam.training.loaded import open_classifier
from agcam.training.model_card import CARD, PICTURE, write_card
from agcam.training.remote import CONFIG, WEIGHTS, push

if TYPE_CHECKING:
    from agcam.training.classifier import ViTClassifier
    from agcam.training.graph_export import Difference, GraphOptions

_TOP = 3
_FORMATS = ("timm", "onnx", "torch", "web")
_OF_GRAPHS = {"top": "--top", "given_targets": "--given-targets", "uint8": "--uint8", "precision": "--precision"}


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of `agcam export`."""
    parser = OneLineParser(
        "agcam export",
        description=f"timm: write {WEIGHTS}, {CONFIG} and {CLASS_NAMES} as timm reads them: "
        "timm.create_model('local-dir:DIR', pretrained=True), agcam images --checkpoint DIR, agcam fit "
        f"--model.weights DIR/{WEIGHTS}. onnx, torch: write one graph that gives logits and AG-CAM heatmaps, "
        "model.onnx or model.pt2, and model.json, which describes it. web: write a folder with index.html, which a "
        "browser opens without server or network: it classifies photographs and shows heatmaps.",
    )
    parser.add_argument(
        "--ckpt_path",
        type=Path,
        required=True,
        metavar="CKPT",
        help="a checkpoint that agcam fit wrote, or what agcam images --checkpoint takes",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where to write; made if missing")
    parser.add_argument("--format", choices=_FORMATS, default="timm", help="default: timm")
    hub = parser.add_argument_group("the Hugging Face hub (format timm)")
    hub.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help=f"upload it as this model, with {CARD}, a model card to look through first: one that is in DIR is kept",
    )
    hub.add_argument(
        "--benchmark", type=Path, metavar="DIR", help="show the figures that agcam benchmark wrote in the model card"
    )
    graph = parser.add_argument_group("graphs (all formats but timm)")
    which = graph.add_mutually_exclusive_group()
    which.add_argument(
        "--top", type=int, metavar="K", help=f"explain the K most probable classes (default: {_TOP}, or all if fewer)"
    )
    which.add_argument(
        "--given-targets",
        action="store_true",
        default=None,
        help="take the classes to explain as second input, targets (B, K) int64, in place of the most probable ones",
    )
    graph.add_argument(
        "--uint8",
        action="store_true",
        default=None,
        help="take images as uint8 (B, H, W, 3) of the model's size and normalize them in the graph; else they are "
        "floats (B, 3, H, W), normalized",
    )
    graph.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        help="fp16: half precision; int8: weights as bytes; both by onnxruntime's tools (default: fp32)",
    )
    parser.add_argument(
        "--onnxruntime-web",
        type=Path,
        metavar="TGZ",
        help="web: the npm package onnxruntime-web as `npm pack` writes it (default: fetched from npm's registry once, "
        "33 MB, and kept in the user's cache)",
    )
    add_debug(parser)
    return parser


def export_command(args: Sequence[str]) -> int:
    """Run `agcam export`; return its exit status."""
    options = make_parser().parse_args(args)
    if options.onnxruntime_web is not None and options.format != "web":
        raise InputError("--onnxruntime-web goes with --format web")
    if options.format == "timm":
        if given := [option for name, option in _OF_GRAPHS.items() if getattr(options, name) is not None]:
            raise InputError(f"{given[0]} goes with --format onnx, torch or web; timm reads weights alone")
        model = open_classifier(options.ckpt_path)
        export(model, options.output)
        if options.push or options.benchmark:
            title, data = options.push or options.output.name, _data_of(options.ckpt_path)
            write_card(model, options.output, title, data, options.benchmark)
        if options.push:
            found = push(options.output, options.push, [WEIGHTS, CONFIG, CLASS_NAMES, CARD, PICTURE])
            print(f"pushed {found}")  # noqa: T201  # its voice
        names = json.dumps(str(f"local-dir:{options.output}"))
        print(f"wrote {options.output}; timm.create_model({names}, pretrained=True) loads it")  # noqa: T201  # its voice
        return 0
    if options.push or options.benchmark:
        raise InputError("--push and --benchmark go with --format timm, which the hub's libraries read")
    return _export_graph(options)


def _data_of(checkpoint: Path) -> str:
    """Name the kind of data in the configuration of the run; its paths are nobody's business."""
    config = find_config(checkpoint)
    data = read_yaml(config).get("data") if config is not None else None
    return f"`{data['class_path']}`" if isinstance(data, dict) and isinstance(data.get("class_path"), str) else ""


def _export_graph(options: argparse.Namespace) -> int:
    from agcam.training import graph_export  # loads what traces, which the other formats do not need

    if options.format == "web" and (options.given_targets or options.uint8):
        given = "--given-targets" if options.given_targets else "--uint8"
        raise InputError(
            f"{given} goes with --format onnx or torch; the page of --format web knows what its graph takes"
        )
    model = open_classifier(options.ckpt_path)
    top = min(_TOP, len(model.class_names)) if options.top is None else options.top
    chosen = graph_export.GraphOptions(
        None if options.given_targets else top, options.uint8 or options.format == "web", options.precision or "fp32"
    )
    if options.format == "web":
        found = _export_web(model, options, chosen)
        place = options.output / "index.html"
    else:
        write = {"onnx": graph_export.export_onnx, "torch": graph_export.export_torch}[options.format]
        found = write(model, options.output, chosen)
        place = options.output
    print(  # noqa: T201  # its voice
        f"wrote {place}; it differs from agcam.explain by at most {found.logits:.1g} of the largest logit and "
        f"{found.heatmaps:.1g} of the largest heatmap value"
    )
    return 0


def _export_web(model: ViTClassifier, options: argparse.Namespace, chosen: GraphOptions) -> Difference:
    from agcam.io.onnxruntime_web import read_onnxruntime_web  # as above
    from agcam.report.web import WebModel, write_web
    from agcam.training.graph_export import covered_pixels, make_onnx

    runtime = read_onnxruntime_web(options.onnxruntime_web)
    graph, difference = make_onnx(model, chosen)
    described = WebModel(
        graph,
        str(model.hparams["backbone"]),
        list(model.class_names),
        model.multilabel,
        model.input_config,
        covered_pixels(model),
    )
    write_web(options.output, described, runtime)
    return difference
