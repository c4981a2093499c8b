"""The commands that argparse reads: `agcam images`, `agcam benchmark`, `agcam compare`, `agcam report`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from agcam.cli.benchmark import add_benchmark, add_compare
from agcam.cli.command_options import OneLineParser, unknown_option
from agcam.cli.images import explain_images, find_images
from agcam.cli.report import add_report
from agcam.console.debug import add_debug, debuggable
from agcam.console.interrupt import interruptible, status_of
from agcam.console.one_line import print_error
from agcam.console.progress import progress
from agcam.errors import InputError
from agcam.explainers.find_vit import inspect_vit
from agcam.io.lock import locked_folder
from agcam.training.loaded import LoadedModel, load_timm, load_trained
from agcam.training.zero_shot import load_clip


@debuggable
def main(args: Sequence[str] | None = None) -> int:
    """Run one of these commands; return its exit status.

    0: done; 1: an image failed, or B is worse; 2: bad input; 130, 143, 129: stopped by Ctrl-C, SIGTERM, SIGHUP.
    """
    given = list(sys.argv[1:] if args is None else args)
    logging.getLogger("timm").setLevel(logging.WARNING)
    try:
        with interruptible():
            options = _parse(given)
            return int(options.run(options))
    except KeyboardInterrupt as interrupt:
        again = "; run the same command again to resume" if given[:1] == ["benchmark"] else ""
        print(f"interrupted{again}", file=sys.stderr)  # noqa: T201  # the command's own voice
        return status_of(interrupt)
    except Exception as error:
        return print_error(error)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = make_parser()
    options, rest = parser.parse_known_args(args)
    if rest and (options.command != "benchmark" or not rest[0].startswith("--data")):
        raise unknown_option(rest[0], parser, options.command)
    options.data_options = rest
    return options


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of these commands."""
    parser = OneLineParser(
        description="Show where a Vision Transformer looks.",
        epilog="`%(prog)s COMMAND --help` describes the options of each.",
        formatter_class=partial(argparse.HelpFormatter, max_help_position=14),
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    images = commands.add_parser(
        "images",
        help="explain photographs: overlays, raw heatmaps, predictions",
        description="Explain photographs with AG-CAM. For each image and class an overlay PNG, for each image the raw "
        "heatmaps (.npz, patch grid, float32), and one predictions.json.",
    )
    images.set_defaults(run=_images)
    _add_model(images, texts=True)
    images.add_argument(
        "--input", type=Path, nargs="+", required=True, metavar="FILE_OR_FOLDER", help="what to explain"
    )
    images.add_argument("--output", type=Path, required=True, metavar="DIR", help="where to write; made if missing")
    images.add_argument("--top", type=int, default=3, metavar="N", help="explain the N most probable classes (3)")
    images.add_argument("--targets", nargs="+", default=[], metavar="NAME", help="explain these classes instead")
    images.add_argument("--batch-size", type=int, default=16, metavar="N", help="images in a batch (16)")
    images.add_argument("--quiet", "-q", action="store_true", help="print only what went wrong")
    images.add_argument("--json", action="store_true", help="print what was found as JSON")
    add_benchmark(commands, _add_model, _load)
    add_compare(commands)
    add_report(commands)
    for command in (parser, *commands.choices.values()):
        add_debug(command)
    return parser


def _add_model(parser: argparse.ArgumentParser, texts: bool = False) -> None:
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--checkpoint",
        type=Path,
        metavar="CKPT",
        help="a checkpoint that agcam fit wrote, or a folder that agcam export wrote",
    )
    model.add_argument(
        "--backbone", metavar="NAME", help="a timm model, such as vit_base_patch16_224.augreg_in21k_ft_in1k"
    )
    parser.add_argument("--pretrained", action="store_true", help="with --backbone: load timm's weights")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda, cuda:1, …")
    if texts:
        model.add_argument(
            "--clip",
            metavar="NAME",
            help="a CLIP or SigLIP that explains texts: MODEL/WEIGHTS of open_clip, or hf:NAME of transformers",
        )
        parser.add_argument("--text", nargs="+", default=[], metavar="TEXT", help="with --clip: what to look for")


def _images(options: argparse.Namespace) -> int:
    paths = find_images(options.input)
    subject = _load(options)
    inspect_vit(subject.model)
    with locked_folder(options.output), progress("explaining", len(paths), quiet=options.quiet) as done:
        outcome = explain_images(
            subject,
            paths,
            options.output,
            top=options.top,
            targets=options.targets,
            batch_size=options.batch_size,
            done=lambda path: done(1),
        )
    for line in outcome.errors:
        print(f"error: {line}", file=sys.stderr)  # noqa: T201  # the command's own voice
    if options.json:
        found = {"output": str(options.output), "images": outcome.predictions, "errors": outcome.errors}
        print(json.dumps(found, indent=2))  # noqa: T201  # what was asked for
    explained = f"{len(outcome.predictions)} of {len(paths)} images explained"
    console = Console(stderr=True, quiet=options.quiet)
    console.print(f"{explained}; see {options.output / 'predictions.json'}", soft_wrap=True, highlight=False)
    return 1 if outcome.errors else 0


def _load(options: argparse.Namespace) -> LoadedModel:
    clip, texts = getattr(options, "clip", None), getattr(options, "text", [])
    if texts and clip is None:
        raise InputError("--text goes with --clip; --targets names the classes of other models")
    if clip is not None:
        if options.pretrained:
            raise InputError("--pretrained goes with --backbone; --clip names its own weights")
        subject = load_clip(clip, texts)
    elif options.checkpoint is not None:
        if options.pretrained:
            raise InputError("--pretrained goes with --backbone; a checkpoint brings its own weights")
        subject = load_trained(options.checkpoint)
    else:
        subject = load_timm(options.backbone, options.pretrained)
        if not options.pretrained:
            print("warning: without --pretrained the weights are random", file=sys.stderr)  # noqa: T201  # as above
    try:
        subject.model.to(options.device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {options.device}: {str(error).splitlines()[0]}") from error
    return subject
