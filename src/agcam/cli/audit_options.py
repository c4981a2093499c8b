"""The options of `agcam audit`; nothing here imports torch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_audit(commands: Any) -> None:
    """Add the command to those that argparse reads."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "audit",
        help="find what a classifier's decisions rest on beside the objects",
        description="Explain a split, group its images by where the model looks and by what is there, and hide what is "
        "hot outside the objects to see which decisions rest on it. Writes audit.json, looks.csv and report.html.",
    )
    parser.set_defaults(run="agcam.cli.audit:run")
    parser.add_argument(
        "subject", type=Path, metavar="RUN_OR_CHECKPOINT", help="a run (runs/NAME/version_N), or a checkpoint"
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="YAML",
        help="a configuration whose data: section names the data (the run's own); any --data.* option of agcam fit "
        "may follow",
    )
    parser.add_argument("--split", choices=["train", "val", "test"], default="val", help="which split (val)")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where to write (audit in the run, or beside the checkpoint)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only N images, spread evenly over the split")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="images in a batch (16)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps, … (a GPU if there is one)")
    parser.add_argument("--quiet", "-q", action="store_true", help="print only what went wrong")
    parser.add_argument("--json", action="store_true", help="print audit.json instead of a summary")
