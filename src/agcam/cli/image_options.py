"""The options of `agcam images`; nothing here imports torch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from agcam.cli.model_options import add_model
from agcam.errors import InputError
from agcam.io.addresses import Address

COLUMN, SHARD_SIZE, MAX_ERRORS = "path", 1000, 100
_OF_PARQUET = ("column", "shard_size", "max_errors", "engine", "ray_address")


def add_images(commands: Any) -> None:
    """Add the command `images` with its options."""
    images: argparse.ArgumentParser = commands.add_parser(
        "images",
        help="explain photographs: overlays, raw heatmaps, predictions",
        description="Explain photographs. For each image and class an overlay, for each image the raw heatmaps (.npz, "
        "patch grid, float32); one predictions.json, and report.html to look at. With --format parquet, for many "
        "images, Parquet files with a row an image instead; torchrun shares them among processes. The same command "
        "resumes one that was stopped, and adds new photographs to the folder.",
    )
    images.set_defaults(run="agcam.cli.images:run")
    add_model(images, texts=True)
    images.add_argument(
        "--input",
        type=Address,
        nargs="+",
        required=True,
        metavar="FILE_OR_FOLDER",
        help="what to explain; with --format parquet also lists (.txt), tables (.parquet, .csv, .tsv), archives (.tar) "
        "and addresses (s3://, gs://, hf://, …)",
    )
    images.add_argument("--output", type=Path, required=True, metavar="DIR", help="where to write; made if missing")
    images.add_argument("--top", type=int, default=3, metavar="N", help="explain the N most probable classes (3)")
    images.add_argument("--targets", nargs="+", default=[], metavar="NAME", help="explain these classes instead")
    images.add_argument(
        "--method", default="agcam", metavar="NAME", help="how to explain, with options as NAME:option=value (agcam)"
    )
    images.add_argument(
        "--format",
        choices=["files", "parquet"],
        default="files",
        help="files: overlays and heatmaps of each photograph; parquet: a row an image, for many images (files)",
    )
    images.add_argument(
        "--overlays",
        choices=["jpeg", "png"],
        help="the format of the overlays (jpeg; with --format parquet there are none unless this is given)",
    )
    images.add_argument(
        "--max-side", type=int, default=1600, metavar="N", help="longest side of an overlay in pixels (1600)"
    )
    add_style(images)
    images.add_argument("--batch-size", type=int, default=16, metavar="N", help="images in a batch (16)")
    images.add_argument("--workers", type=int, default=1, metavar="N", help="threads that read images (1)")
    images.add_argument(
        "--precision", choices=["fp32", "bf16"], default="fp32", help="of the model; bf16 is faster on a GPU (fp32)"
    )
    images.add_argument(
        "--column", metavar="NAME", help=f"with --format parquet: the column of tables that has paths ({COLUMN})"
    )
    images.add_argument(
        "--shard-size", type=int, metavar="N", help=f"with --format parquet: images in a file ({SHARD_SIZE})"
    )
    images.add_argument(
        "--max-errors",
        type=int,
        metavar="N",
        help=f"with --format parquet: stop when more than N images fail ({MAX_ERRORS})",
    )
    images.add_argument(
        "--engine", choices=["ray"], help="with --format parquet: share the work on a Ray cluster; paths are absolute"
    )
    images.add_argument(
        "--ray-address", metavar="ADDRESS", help="with --engine ray: of the cluster (RAY_ADDRESS, else this machine)"
    )
    images.add_argument("--quiet", "-q", action="store_true", help="print only what went wrong")
    images.add_argument("--json", action="store_true", help="print what was found as JSON")


def add_style(parser: argparse.ArgumentParser) -> None:
    """Add how heat is drawn."""
    parser.add_argument("--colormap", default="inferno", metavar="NAME", help="one of matplotlib's colormaps (inferno)")
    parser.add_argument(
        "--alpha", type=float, default=0.65, metavar="X", help="opacity of the hottest place, from 0 to 1 (0.65)"
    )
    parser.add_argument(
        "--contour", type=float, metavar="X", help="draw a line around what is hotter than this share, such as 0.5"
    )


def check_unused(options: argparse.Namespace) -> None:
    """Check that nothing is asked for that only --format parquet can do.

    Raises:
        InputError: naming it.
    """
    given = [name for name in _OF_PARQUET if getattr(options, name) is not None]
    if given:
        raise InputError(f"--{given[0].replace('_', '-')} goes with --format parquet")
    remote = [address for address in options.input if address.is_remote]
    if remote:
        raise InputError(f"{remote[0]}: addresses are read with --format parquet only; copy photographs to this disk")
