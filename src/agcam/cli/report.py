"""`explain.py report`: the command, and the call that writes a report at the end of a run or benchmark."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from agcam.errors import DataError, InputError
from agcam.report.benchmark import benchmark_report
from agcam.report.images import PREDICTIONS, images_report
from agcam.report.model import Report
from agcam.report.page import render, write
from agcam.report.run import run_report


def add_report(commands: Any) -> None:
    """Add the `report` command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="one HTML file to look at a run, a benchmark or explained photographs",
        description="Write one HTML file that opens from disk, offline: the images with their heatmaps, tables, "
        "curves, and what happens to the prediction when the hottest pixels go.",
    )
    parser.set_defaults(run=_report)
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="a run (runs/NAME/version_N), or the output of explain.py benchmark or images",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="what to write (report.html in the folder)")
    parser.add_argument("--quiet", "-q", action="store_true", help="only what went wrong")
    parser.add_argument("--json", action="store_true", help="print where it was written as JSON")


def write_report(folder: Path, output: Path | None = None) -> Path:
    """Write the report of a run, a benchmark or explained photographs.

    Args:
        folder: where they lie.
        output: the file to write; `report.html` in the folder if None.

    Returns:
        The file.

    Raises:
        DataError: if the folder holds none of these, or a file in it is broken; the message names it.
    """
    output = output or folder / "report.html"
    write(render(open_report(folder), output), output)
    return output


def open_report(folder: Path) -> Report:
    """Read whatever the folder holds.

    Raises:
        DataError: as `write_report`.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected a run or an output folder of explain.py")
    if (folder / "results.json").is_file():
        return benchmark_report(folder)
    if (folder / PREDICTIONS).is_file():
        return images_report(folder)
    versions = [path for path in folder.glob("version_*") if path.name[8:].isdigit()]
    run = max(versions, key=lambda path: int(path.name[8:]), default=folder)
    if (run / "metrics.csv").is_file() or (run / "explanations").is_dir():
        return run_report(run)
    raise DataError(
        f"{folder}: nothing to report; expected metrics.csv or explanations/ (a run), results.json (a finished "
        f"benchmark) or {PREDICTIONS} (explained photographs)"
    )


def _report(options: argparse.Namespace) -> int:
    if options.output is not None and options.output.is_dir():
        raise InputError(f"--output {options.output} is a folder; name a file, such as report.html")
    written = write_report(options.folder, options.output)
    if options.json:
        print(json.dumps({"report": str(written)}))  # noqa: T201  # what was asked for
    else:
        Console(quiet=options.quiet).print(f"report       {written}", soft_wrap=True, highlight=False, markup=False)
    return 0
