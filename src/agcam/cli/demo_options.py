"""The options of `agcam demo`; nothing here imports torch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from agcam.cli.image_options import add_style

HOST, PORT = "127.0.0.1", 7860


def add_demo(commands: Any) -> None:
    """Add the command to those that argparse reads."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="serve a page that classifies a photograph and shows where the model looks",
        description="Serve a page for a browser: drop a photograph, see its most probable classes and the heatmap of "
        "each, by any method. Needs the extra `demo`. Nothing leaves this machine but to the browser that opens the "
        "page; Ctrl-C ends it.",
    )
    parser.set_defaults(run="agcam.cli.demo:run", pretrained=False)
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="what agcam images --checkpoint takes")
    parser.add_argument(
        "--host",
        default=HOST,
        metavar="ADDRESS",
        help=f"where to listen ({HOST}, this machine alone); 0.0.0.0 lets in whoever reaches this machine",
    )
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"port; 0 takes a free one ({PORT})")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="explain the N most probable classes (5)")
    add_style(parser)
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps, … (a GPU if there is one)")
    parser.add_argument("--quiet", "-q", action="store_true", help="print only what went wrong")
