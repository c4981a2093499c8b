"""`agcam report`: its options and what it prints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from agcam.errors import InputError
from agcam.report.write import write_report


def add_report(commands: Any) -> None:
    """Add the `report` command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="write one HTML file to look at a run, a benchmark or explained photographs",
        description="Write one HTML file that opens from disk, offline: the images with their heatmaps, tables, "
        "curves, and how the prediction changes when the hottest pixels are removed.",
    )
    parser.set_defaults(run=_report)
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="a run (runs/NAME/version_N), or the output of agcam benchmark or agcam images",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the file to write (report.html in the folder)"
    )
    parser.add_argument("--quiet", "-q", action="store_true", help="print only what went wrong")
    parser.add_argument("--json", action="store_true", help="print where it was written as JSON")


def _report(options: argparse.Namespace) -> int:
    if options.output is not None and options.output.is_dir():
        raise InputError(f"--output {options.output} is a folder; name a file, such as report.html")
    written = write_report(options.folder, options.output)
    if options.json:
        print(json.dumps({"report": str(written)}))  # noqa: T201  # what was asked for
    else:
        Console(quiet=options.quiet).print(f"report       {written}", soft_wrap=True, highlight=False, markup=False)
    return 0
