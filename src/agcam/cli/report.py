"""`agcam report`: what it does and prints."""

from __future__ import annotations

import argparse
import json

from rich.console import Console

from agcam.errors import InputError
from agcam.report.write import write_report


def run(options: argparse.Namespace) -> int:
    """Run `agcam report`; return its exit status."""
    if options.output is not None and options.output.is_dir():
        raise InputError(f"--output {options.output} is a folder; name a file, such as report.html")
    written = write_report(options.folder, options.output)
    if options.json:
        print(json.dumps({"report": str(written)}))  # noqa: T201  # what was asked for
    else:
        Console(quiet=options.quiet).print(f"report       {written}", soft_wrap=True, highlight=False, markup=False)
    return 0
