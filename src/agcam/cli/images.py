"""Explain photographs outside of a data set: overlays, raw heatmaps and predictions on disk."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from agcam.benchmark.summarize import environment
from agcam.cli.load_model import architecture_of, load_model
from agcam.console.progress import progress
from agcam.data.batch import Example
from agcam.data.transforms import Transform, visible_part
from agcam.errors import DataError, InputError
from agcam.evaluating import evaluating
from agcam.explainers.explain import check_image_batch, explain_recording
from agcam.explainers.explanation import Explanation
from agcam.explainers.find_vit import inspect_vit
from agcam.explainers.lean_forward import record_lean
from agcam.io.atomic import whole_file, write_whole
from agcam.io.image_files import find_image_files, say_left_out
from agcam.io.images import SUFFIXES, read_image
from agcam.io.json import RECORD, write_json
from agcam.io.lock import locked_folder
from agcam.io.names import safe_name
from agcam.io.redact import without_home
from agcam.io.text import name_of_file
from agcam.training.loaded import LoadedModel
from agcam.visualization import overlay as render

log = logging.getLogger(__name__)
_WRITERS = 2
_VIEW_SIDE = 448


@dataclass
class Outcome:
    """The results: an entry of `predictions` for each explained image, a line of `errors` for each that failed."""

    predictions: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def find_images(inputs: Sequence[Path]) -> list[Path]:
    """Return the given files, and the images in the given folders, sorted; log which files of folders were ignored.

    Raises:
        DataError: if an input does not exist or there is no image at all.
    """
    found: list[Path] = []
    left_out = Counter[str]()
    for path in inputs:
        if path.is_dir():
            files = find_image_files(path)
            found += files.paths
            left_out += files.left_out
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    where = ", ".join(map(str, inputs))
    if not found:
        but = f" ({say_left_out(left_out)})" if left_out else ""
        raise DataError(f"no image in {where}; expected files ending in {', '.join(sorted(SUFFIXES))}{but}")
    if left_out:
        log.warning("%s: %s", where, say_left_out(left_out))
    return list(dict.fromkeys(found))


def find_classes(names: Sequence[str], class_names: list[str]) -> list[int]:
    """Return the class indices of names; case does not matter.

    Raises:
        InputError: for an unknown name, with the names that resemble it.
    """
    index = {name.casefold(): i for i, name in reversed(list(enumerate(class_names)))}
    for name in names:
        if name.casefold() not in index:
            close = [c for c in class_names if name.casefold() in c.casefold()] or class_names
            more = f", … ({len(class_names)} classes)" if len(close) > 8 else ""
            raise InputError(f"unknown class {name!r}; the model has {', '.join(close[:8])}{more}")
    return [index[name.casefold()] for name in names]


def explain_images(
    subject: LoadedModel,
    paths: Sequence[Path],
    output: Path,
    top: int = 3,
    targets: Sequence[str] = (),
    batch_size: int = 16,
    done: Callable[[Path], None] = lambda path: None,
) -> Outcome:
    """Explain image files and write the results to `output`.

    For each image and class an overlay `NAME.CLASS.png`, for each image `NAME.npz` with `heatmaps` (T, h, w)
    float32 on the patch grid, `targets` (T,) and `classes` (T,), and a small `NAME.view.jpg` of what the model
    saw; one `predictions.json` for all.

    Args:
        subject: the model and what it needs.
        paths: image files.
        output: folder, made if missing.
        top: how many of the most probable classes to explain.
        targets: names of the classes to explain instead.
        batch_size: images in a batch.
        done: called with each path once it is explained or has failed.

    Raises:
        InputError: for an unknown class.
    """
    if top < 1:
        raise InputError(f"--top must be at least 1, found {top}")
    wanted = find_classes(targets, subject.class_names)
    output.mkdir(parents=True, exist_ok=True)
    outcome = Outcome()
    stems = _unique_stems(paths)
    transform = Transform(subject.input_config)
    device = next(subject.model.parameters()).device
    waiting: list[tuple[Path, Future[dict[str, Any]]]] = []

    def collect() -> None:
        for path, written in waiting:
            outcome.predictions.append({"image": without_home(name_of_file(path))} | written.result())
        for path, _ in waiting:
            done(path)  # when nothing of the batch is being written any more
        waiting.clear()

    # drawing and encoding take as long as a small model: they run beside the next batch
    with ThreadPoolExecutor(_WRITERS) as pool:
        for group in _groups(paths, batch_size):
            originals, tensors = {}, []
            for path in group:
                try:
                    image = read_image(path)
                except DataError as error:
                    outcome.errors.append(str(error))
                    done(path)
                    continue
                originals[path] = image
                tensors.append(transform(Example(image, (), None, None, None, path.name), torch.tensor(0), 0).image)
            if not originals:
                continue
            images = torch.stack(tensors).to(device)
            explanation = _explain(subject, images, wanted, min(top, len(subject.class_names)))
            logits = explanation.logits.float()
            probabilities = logits.sigmoid() if subject.multilabel else logits.softmax(1)
            collect()
            placed = explanation.placed.cpu().numpy()
            for row, (path, image) in enumerate(originals.items()):
                view, stem = visible_part(image, subject.input_config), stems[path]
                found = (explanation, placed[row], probabilities, row, subject.class_names)
                waiting.append((path, pool.submit(_write, output, stem, view, *found)))
        collect()
    text = json.dumps(outcome.predictions, indent=2, ensure_ascii=False)
    write_whole(output / "predictions.json", f"{text}\n".encode())
    return outcome


def _explain(subject: LoadedModel, images: Tensor, wanted: list[int], top: int) -> Explanation:
    check_image_batch(images)
    with evaluating(subject.model):
        recording = record_lean(subject.model, images)
        if wanted:
            return explain_recording(recording, torch.tensor(wanted).expand(len(images), -1))
        return explain_recording(recording, recording.logits.topk(top, dim=1).indices)


def _write(
    output: Path,
    stem: str,
    view: np.ndarray,
    explanation: Explanation,
    placed: np.ndarray,
    probabilities: Tensor,
    row: int,
    class_names: list[str],
) -> dict[str, Any]:
    heatmaps = explanation.heatmaps[row].cpu().numpy()
    targets = explanation.targets[row].tolist()
    names = np.array([class_names[t] for t in targets])
    with whole_file(output / f"{stem}.npz") as part, part.open("wb") as raw:
        np.savez(raw, heatmaps=heatmaps, targets=np.array(targets), classes=names)
    classes = []
    for target, heatmap in zip(targets, placed, strict=True):
        file = f"{stem}.{safe_name(class_names[target])}.png"
        render.save_png(render.overlay(view, heatmap), output / file)
        probability = float(probabilities[row, target])
        classes.append({"class": class_names[target], "index": target, "probability": probability, "overlay": file})
    small = Image.fromarray(view)
    small.thumbnail((_VIEW_SIDE, _VIEW_SIDE))
    with whole_file(output / f"{stem}.view.jpg") as part:
        small.save(part, "JPEG", quality=90)
    predicted = class_names[int(probabilities[row].argmax())]
    return {"view": f"{stem}.view.jpg", "heatmaps": f"{stem}.npz", "predicted": predicted, "classes": classes}


def _unique_stems(paths: Sequence[Path]) -> dict[Path, str]:
    """Give each path a file stem of its own, also where two folders hold files of the same name."""
    taken: set[str] = set()
    last: dict[str, int] = {}
    stems = {}
    for path in paths:
        stem = safe_name(path.stem)
        number = last.get(stem, 0) + 1
        while (candidate := stem if number == 1 else f"{stem}_{number}") in taken:
            number += 1
        last[stem] = number
        taken.add(candidate)
        stems[path] = candidate
    return stems


def _groups(paths: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    for start in range(0, len(paths), size):
        yield paths[start : start + size]


def run(options: argparse.Namespace) -> int:
    """Run `agcam images`; return its exit status."""
    paths = find_images(options.input)
    subject = load_model(options)
    inspect_vit(subject.model)
    started = time.monotonic()
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
        given = options.checkpoint or options.clip or ("pretrained" if options.pretrained else "random")
        known = {
            "model": architecture_of(subject.model),
            "weights": without_home(str(given)),
            "methods": ["agcam"],
            "settings": f"classes {', '.join(options.targets)}" if options.targets else f"top {options.top} classes",
            "seconds": round(time.monotonic() - started, 2),
        }
        write_json(options.output / RECORD, environment() | known)
    for line in outcome.errors:
        print(f"error: {line}", file=sys.stderr)  # noqa: T201  # the command's own voice
    if options.json:
        found = {"output": str(options.output), "images": outcome.predictions, "errors": outcome.errors}
        print(json.dumps(found, indent=2))  # noqa: T201  # what was asked for
    explained = f"{len(outcome.predictions)} of {len(paths)} images explained"
    console = Console(stderr=True, quiet=options.quiet)
    console.print(f"{explained}; see {options.output / 'predictions.json'}", soft_wrap=True, highlight=False)
    return 1 if outcome.errors else 0
