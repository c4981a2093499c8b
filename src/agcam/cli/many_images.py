"""`agcam images --format parquet`: many images into Parquet shards."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from agcam.benchmark.methods import parse_method
from agcam.bulk.listing import list_shards
from agcam.bulk.processes import this_process
from agcam.bulk.provenance import about_call, settings_of
from agcam.cli.by_ray import check_for_ray, explain_by_ray
from agcam.cli.explained_files import Drawing, drawing_settings, write_overlays
from agcam.cli.image_options import COLUMN, MAX_ERRORS, SHARD_SIZE
from agcam.cli.load_model import given_weights, load_model
from agcam.console.progress import progress
from agcam.data.photographs import Photograph
from agcam.errors import InputError
from agcam.explainers.explanation import Explanation
from agcam.explainers.find_vit import inspect_vit
from agcam.io.atomic import make_folder
from agcam.io.explained_folder import OVERLAYS
from agcam.io.image_files import say_left_out
from agcam.io.names import safe_name
from agcam.training.explain_batch import Request, find_classes
from agcam.training.explain_files import explained
from agcam.training.loaded import LoadedModel
from agcam.visualization.photograph import Style

log = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> int:
    """Run `agcam images --format parquet`; return its exit status."""
    _check_installed("pyarrow", "--format parquet", "parquet")
    from agcam.bulk.manifest import ShardFolder  # with pyarrow
    from agcam.bulk.run import Loading, explain_shards

    shard_size = SHARD_SIZE if options.shard_size is None else options.shard_size
    max_errors = MAX_ERRORS if options.max_errors is None else options.max_errors
    lowest = {"--top": options.top, "--batch-size": options.batch_size, "--workers": options.workers}
    for name, value in (lowest | {"--shard-size": shard_size, "--max-errors": max_errors + 1}).items():
        if value < 1:
            least, found = (0, value - 1) if name == "--max-errors" else (1, value)
            raise InputError(f"{name} must be at least {least}, found {found}")
    process, method, drawing = this_process(), parse_method(options.method), _drawing(options)
    if options.engine == "ray":
        _check_installed("ray", "--engine ray", "ray")
        check_for_ray(options)
    elif options.ray_address is not None:
        raise InputError("--ray-address goes with --engine ray")
    listing = partial(list_shards, options.input, shard_size, options.column or COLUMN, options.output)
    next(listing(Counter()))  # says what is wrong with the input before a model is loaded
    subject = load_model(options, process.local_rank)
    inspect_vit(subject.model)
    targets = tuple(find_classes(options.targets, subject.class_names))
    request = Request(method.name, method.options, options.top, targets, options.precision)
    weights = given_weights(options)
    about = about_call(subject, weights)
    settings = settings_of(subject, options.method, options.top, options.targets, options.precision)
    settings |= {"--shard-size": shard_size} | ({} if drawing is None else drawing_settings(drawing))
    folder = ShardFolder(options.output, settings, about, subject.class_names)
    loading = Loading(options.batch_size, options.workers, max_errors, None if drawing is None else drawing.max_side)
    draw = None if drawing is None else partial(_draw, subject, options.output / OVERLAYS, drawing)
    quiet, begun = options.quiet or process.rank > 0, time.monotonic()
    with progress("explaining", math.inf, quiet=quiet) as done:
        if options.engine == "ray":
            totals = explain_by_ray(options, request, folder, listing, weights, loading, done)
        else:
            totals = explain_shards(subject, request, folder, listing, about, loading, process, done, draw)
    seconds = time.monotonic() - begun
    complete = folder.finish(totals.listed)
    if totals.left_out and not quiet:
        log.warning("%s", say_left_out(totals.left_out))
    if options.json and process.rank == 0:
        found = {"output": str(options.output), "complete": complete is not None, "images": totals.images}
        found |= {"errors": totals.errors, "seconds": round(seconds, 2)}
        print(json.dumps(found, indent=2))  # noqa: T201  # what was asked for
    console = Console(stderr=True, quiet=quiet)
    all_of_it = (
        f"all {complete.images} are done, {complete.errors} of them failed; see {options.output}"
        if complete is not None
        else "other processes are at work on the rest; if they were killed, run the same command again"
    )
    console.print(f"{totals.images} images explained; {all_of_it}", soft_wrap=True, highlight=False)
    return 0


def _check_installed(package: str, option: str, extra: str) -> None:
    if find_spec(package) is None:
        raise InputError(f"{option} needs {package}, which is not installed: pip install 'agcam[{extra}]'")


def _drawing(options: argparse.Namespace) -> Drawing | None:
    if options.overlays is None:
        return None
    drawing = Drawing(Style(options.colormap, options.alpha, options.contour), options.overlays, options.max_side)
    drawing.check()
    return drawing


def _draw(
    subject: LoadedModel,
    output: Path,
    drawing: Drawing,
    shard: int,
    photographs: Sequence[Photograph],
    explanation: Explanation,
) -> None:
    """Write the overlays of a batch, all of them before its shard can be done."""
    folder = output / f"{shard:08}"
    make_folder(folder)
    with ThreadPoolExecutor(2) as pool:
        tasks = []
        found_on = explained(subject, explanation, [photograph.path for photograph in photographs])
        for photograph, found in zip(photographs, found_on, strict=True):
            name = str(photograph.path)
            # names repeat in other folders
            stem = f"{safe_name(photograph.path.stem)}.{hashlib.sha256(name.encode()).hexdigest()[:8]}"
            assert photograph.picture is not None  # it was read for drawing
            tasks.append(
                pool.submit(write_overlays, folder, stem, photograph.picture, found, subject.input_config, drawing)
            )
        for written in tasks:
            written.result()
