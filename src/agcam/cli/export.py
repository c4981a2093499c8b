"""`agcam export`: its options and what it prints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from agcam.cli.command_options import OneLineParser
from agcam.console.debug import add_debug
from agcam.training.classifier import ViTClassifier
from agcam.training.export import CLASS_NAMES, CONFIG, WEIGHTS, export


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of `agcam export`."""
    parser = OneLineParser(
        "agcam export",
        description=f"Write {WEIGHTS}, {CONFIG} and {CLASS_NAMES} as timm reads them: "
        "timm.create_model('local-dir:DIR', pretrained=True), agcam images --checkpoint DIR, agcam fit "
        "--model.weights DIR.",
    )
    parser.add_argument(
        "--ckpt_path", type=Path, required=True, metavar="CKPT", help="a checkpoint that agcam fit wrote"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where to write; made if missing")
    add_debug(parser)
    return parser


def export_command(args: Sequence[str]) -> int:
    """Run `agcam export`; return its exit status."""
    options = make_parser().parse_args(args)
    model = ViTClassifier.from_checkpoint(options.ckpt_path)
    export(model, options.output)
    names = json.dumps(str(f"local-dir:{options.output}"))
    print(f"wrote {options.output}; timm.create_model({names}, pretrained=True) loads it")  # noqa: T201  # its voice
    return 0
