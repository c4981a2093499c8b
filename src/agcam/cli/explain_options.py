"""The options of `agcam images`, `benchmark`, `compare`, `report` and others; nothing here imports torch."""

from __future__ import annotations

import argparse
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from agcam.benchmark.default_methods import DEFAULT
from agcam.cli.audit_options import add_audit
from agcam.cli.command_options import OneLineParser
from agcam.cli.demo_options import add_demo
from agcam.cli.image_options import add_images
from agcam.cli.model_options import add_model
from agcam.console.debug import add_debug

METRICS = {
    "localization": "overlap with the object at threshold 0.5, corrected protocol",
    "leem2024": "the same by the paper's protocol",
    "max_box_acc": "does the box around the largest contour match the object's, at the best threshold and at 0.5",
    "max_box_acc_v2": "the same for any box, mean over IoU 0.3, 0.5, 0.7",
    "pxap": "pixel average precision over 100 thresholds",
    "segmentation": "the map thresholded at its mean (Chefer et al. 2021)",
    "pointing_game": "does the peak lie on the object",
    "energy_pointing_game": "how much of the energy lies on the object",
    "abpc": "area between perturbation curves (Leem & Seo 2024)",
    "insertion_deletion": "RISE, 20 steps",
    "positive_negative": "top-1 accuracy while the most or least relevant pixels are removed first",
}
"""The metrics that `agcam benchmark` measures unless told otherwise, as their declarations describe them."""
SLOW_METRICS = {
    "road": "the same with imputed pixels; takes seconds for each image and method on a CPU",
    "sanity": "similarity to the maps of a model whose parts are randomized",
}
"""Those that it measures only where they are named."""


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of these commands; each has `run`, the "module:function" that runs it."""
    parser = OneLineParser(
        description="Show where a Vision Transformer looks.",
        epilog="`%(prog)s COMMAND --help` describes the options of each.",
        formatter_class=partial(argparse.HelpFormatter, max_help_position=14),
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    for add in (add_images, _add_benchmark, _add_compare, add_audit, _add_report, add_demo):
        add(commands)
    for command in (parser, *commands.choices.values()):
        add_debug(command)
    return parser


def _add_benchmark(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "benchmark",
        help="compare explanation methods on a data set: localization, faithfulness, cost",
        description="Compare explanation methods on a data set. Writes results.json, results.md, results.tex, "
        "images.csv and figures/. If it was stopped, the same command resumes it.",
    )
    parser.set_defaults(run="agcam.cli.benchmark:run")
    add_model(parser)
    parser.add_argument(
        "--config",
        type=Path,
        metavar="YAML",
        help="a configuration whose data: section names the data (the one beside the checkpoint); any --data.* option "
        "of agcam fit may follow",
    )
    parser.add_argument(
        "--split", choices=["train", "val", "test"], default="val", help="which split of the data (val)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where to write; made if missing")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=list(DEFAULT),
        metavar="NAME",
        help=f"methods, with options as NAME:option=value ({' '.join(DEFAULT)}), or all; a function of your "
        "own as my_package.module:function; the controls are always added",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help=_metrics_help(),
    )
    parser.add_argument(
        "--ground-truth", choices=["boxes", "masks"], default="boxes", help="what overlaps are scored against (boxes)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only N images, spread evenly over the split")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="images in a batch (16)")
    parser.add_argument(
        "--devices",
        "--trainer.devices",
        type=int,
        default=1,
        metavar="N",
        help="processes, each on a GPU of its own (1)",
    )
    parser.add_argument(
        "--perturbed-precision",
        choices=["fp32", "bf16"],
        default="fp32",
        help="of the forwards on perturbed images, which take most of the time; heatmaps stay in fp32 (fp32)",
    )
    parser.add_argument("--save-heatmaps", action="store_true", help="keep all heatmaps, as heatmaps/*.safetensors")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the bootstrap (0)")
    parser.add_argument(
        "--quiet", "-q", action="store_true", help="print neither progress nor the table, only what went wrong"
    )
    parser.add_argument("--json", action="store_true", help="print results.json instead of a table")


def _add_compare(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="compare two results, with significance; a gate for CI",
        description="Compare two results of agcam benchmark, or two methods of one, image by image (paired bootstrap). "
        "Exit status 1 if B is worse by more than --tolerance and the 95 % interval excludes zero.",
    )
    parser.set_defaults(run="agcam.cli.compare:run")
    parser.add_argument("a", type=Path, metavar="A", help="output folder of a benchmark")
    parser.add_argument(
        "b", type=Path, metavar="B", nargs="?", help="the output folder of another; A itself if left out"
    )
    parser.add_argument(
        "--methods", nargs="+", default=["agcam"], metavar="NAME", help="one method for both, or A's and B's (agcam)"
    )
    parser.add_argument(
        "--values", nargs="+", metavar="NAME", help="values to compare, such as abpc or localization/iou (all)"
    )
    parser.add_argument("--tolerance", type=float, default=0.0, metavar="X", help="how much worse B may be (0)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_report(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="write one HTML file to look at a run, a benchmark, an audit or explained photographs",
        description="Write one HTML file that opens from disk, offline: the images with their heatmaps, tables, "
        "curves, and how the prediction changes when the hottest pixels are removed.",
    )
    parser.set_defaults(run="agcam.cli.report:run")
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="a run (runs/NAME/version_N), or the output of agcam benchmark, agcam audit or agcam images",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the file to write (report.html in the folder)"
    )
    parser.add_argument("--quiet", "-q", action="store_true", help="print only what went wrong")
    parser.add_argument("--json", action="store_true", help="print where it was written as JSON")


def _metrics_help() -> str:
    """List the metrics that are measured by default and the others, with what each measures."""
    lists = [", ".join(f"{name} ({what})" for name, what in specs.items()) for specs in (METRICS, SLOW_METRICS)]
    installed = ", ".join(sorted(point.name for point in entry_points(group="agcam.metrics")))
    others = f"; of installed packages: {installed}" if installed else ""
    text = f"what to measure: {lists[0]}; only if named: {lists[1]}{others}; or all, or my_package.module:spec"
    return text.replace("%", "%%")
