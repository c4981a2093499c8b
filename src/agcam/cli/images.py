"""Explain photographs outside of a data set: overlays, raw heatmaps and predictions on disk."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from agcam.benchmark.methods import parse_method
from agcam.bulk.provenance import about_call, settings_of
from agcam.cli import many_images
from agcam.cli.explained_files import Drawing, drawing_settings, say_seen_part, write_files
from agcam.cli.image_options import check_unused
from agcam.cli.load_model import given_weights, load_model
from agcam.console.progress import progress
from agcam.data.find_photographs import find_images
from agcam.data.photographs import Unreadable
from agcam.errors import InputError
from agcam.explainers.find_vit import inspect_vit
from agcam.explainers.lean_forward import Precision
from agcam.io.explained_folder import ExplainedFolder, file_state, holds_shards
from agcam.io.lock import locked_folder
from agcam.io.names import safe_name
from agcam.report.write import write_report
from agcam.training.explain_batch import Request, find_classes
from agcam.training.explain_files import explain_photographs
from agcam.training.loaded import LoadedModel
from agcam.visualization.photograph import Style

_WRITERS = 2


@dataclass
class Outcome:
    """The results: an entry of `predictions` for each explained image, a line of `errors` for each that failed.

    Attributes:
        predictions: of the images that were given, also where an earlier call explained them.
        errors: of this call.
        explained: how many this call explained.
    """

    predictions: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    explained: int = 0


def explain_images(
    subject: LoadedModel,
    paths: Sequence[Path],
    output: Path,
    top: int = 3,
    targets: Sequence[str] = (),
    batch_size: int = 16,
    done: Callable[[Path], None] = lambda path: None,
    method: str = "agcam",
    drawing: Drawing | None = None,
    workers: int = 1,
    weights_name: str = "",
    precision: Precision = "fp32",
) -> Outcome:
    """Explain image files and write the results to `output`; what it holds already is skipped.

    For each image and class an overlay `NAME.CLASS.jpg`, for each image `NAME.npz` with `heatmaps` (T, h, w)
    float32 on the patch grid, `targets` (T,) and `classes` (T,), and a small `NAME.view.jpg` of what the model
    saw; one `predictions.json` for all, with the provenance. A call that is killed is resumed by the next one.

    Args:
        subject: the model and what it needs.
        paths: image files.
        output: folder, made if missing; one process at a time may write there.
        top: how many of the most probable classes to explain.
        targets: names of the classes to explain instead.
        batch_size: images in a batch.
        done: called with each path once it is explained, skipped or has failed.
        method: of `agcam.methods()`, with options as "NAME:option=value".
        drawing: how overlays are drawn.
        workers: threads that read images.
        weights_name: where the weights come from, for the provenance.
        precision: of the forward.

    Raises:
        InputError: for an unknown class or method, or where `output` holds explanations of other settings.
        OutputError: if a file cannot be written.
    """
    drawing = drawing or Drawing()
    drawing.check()
    for name, value in (("--top", top), ("--batch-size", batch_size), ("--workers", workers)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, found {value}")
    chosen, classes = parse_method(method), find_classes(targets, subject.class_names)
    request = Request(chosen.name, chosen.options, top, classes, precision)
    settings = settings_of(subject, method, top, targets, precision) | drawing_settings(drawing)
    folder = ExplainedFolder(output, settings, about_call(subject, weights_name))
    outcome, begun = Outcome(), time.monotonic()
    left: list[Path] = []
    for path in paths:
        (done if folder.done(path) else left.append)(path)
    states = {path: file_state(path) for path in left}  # of before they are read
    stems = folder.stems(left, lambda path: safe_name(path.stem))
    waiting: list[tuple[Path, Future[dict[str, Any]]]] = []
    if left:
        folder.begin()

    def collect() -> None:
        found = [(path, {"file": states[path]} | written.result()) for path, written in waiting]
        folder.add(found)
        for path, _ in waiting:
            done(path)  # when nothing of the batch is being written any more
        waiting.clear()

    # drawing and encoding run beside the next batch
    with ThreadPoolExecutor(_WRITERS) as pool:
        for group in explain_photographs(subject, left, request, batch_size, drawing.max_side, workers):
            collect()
            for item, found in group:
                if isinstance(item, Unreadable):
                    outcome.errors.append(item.error)
                    done(item.path)
                else:
                    task = (output, stems[item.path], item, found, subject.input_config, drawing)
                    waiting.append((item.path, pool.submit(write_files, *task)))
        collect()
    folder.finish(outcome.errors, time.monotonic() - begun)
    outcome.predictions, outcome.explained = folder.images_of(paths), folder.explained
    return outcome


def run(options: argparse.Namespace) -> int:
    """Run `agcam images`; return its exit status."""
    if options.format == "parquet":
        return many_images.run(options)
    check_unused(options)
    if holds_shards(options.output):
        raise InputError(f"{options.output}: holds Parquet shards; choose another folder, or add --format parquet")
    paths = find_images([Path(given) for given in options.input], options.output)
    style = Style(options.colormap, options.alpha, options.contour)
    drawing = Drawing(style, options.overlays or "jpeg", options.max_side)
    drawing.check()
    parse_method(options.method)
    subject = load_model(options)
    inspect_vit(subject.model)
    console = Console(stderr=True, quiet=options.quiet)
    if seen := say_seen_part(subject.input_config):
        console.print(seen, soft_wrap=True, highlight=False)
    with locked_folder(options.output), progress("explaining", len(paths), quiet=options.quiet) as done:
        outcome = explain_images(
            subject,
            paths,
            options.output,
            top=options.top,
            targets=options.targets,
            batch_size=options.batch_size,
            done=lambda path: done(1),
            method=options.method,
            drawing=drawing,
            workers=options.workers,
            precision=options.precision,
            weights_name=given_weights(options),
        )
        report = write_report(options.output)
    for line in outcome.errors:
        print(f"error: {line}", file=sys.stderr)  # noqa: T201  # the command's own voice
    if options.json:
        places = {"output": str(options.output), "report": str(report)}
        found = places | {"images": outcome.predictions, "errors": outcome.errors}
        print(json.dumps(found, indent=2))  # noqa: T201  # what was asked for
    before = len(outcome.predictions) - outcome.explained
    already = f", {before} of them by an earlier call" if before else ""
    explained = f"{len(outcome.predictions)} of {len(paths)} images explained{already}"
    console.print(f"{explained}; see {report}", soft_wrap=True, highlight=False)
    return 1 if outcome.errors else 0
