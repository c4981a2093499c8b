"""Read the output of `agcam images` into a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from agcam.errors import DataError, brief
from agcam.io.archives import refuse_bomb
from agcam.io.explained_folder import PREDICTIONS, read_record
from agcam.io.explained_images import ExplainedImage
from agcam.io.images import read_image
from agcam.io.text import inside
from agcam.report.facts import About, duration, facts_of, without_path
from agcam.report.model import Fact, Frame, Link, Report, percent

SHOWN = 300
"""Of more photographs as many are shown, spread evenly, so that the page opens and stays small."""


def images_report(folder: Path) -> Report:
    """Read a folder of explained photographs.

    Raises:
        DataError: if a file is missing or broken, with its name.
    """
    record, path = read_record(folder), folder / PREDICTIONS
    try:
        found = list(enumerate(record["images"]))
        chosen = found[:: -(-len(found) // SHOWN)] if found else []
        method = str(record["settings"]["--method"])
        shown = [view for number, entry in chosen for view in _views(folder, number, entry, method)]
        facts, notes = _facts(folder, record), _notes(record)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
        RecursionError,
    ) as error:
        raise DataError(
            f"{path}: not what agcam images writes ({type(error).__name__}: {brief(error)}); "
            "explain the photographs again, into another folder"
        ) from error
    if len(chosen) < len(found):
        notes.append(f"{len(chosen)} of {len(found):,} photographs are shown, spread evenly; the folder has all.")
    return Report(
        kind="images",
        title=f"Where the model looks: {folder.resolve().name}",
        facts=facts,
        frames=[Frame("images", None, shown)] if shown else [],
        empty="" if shown else "predictions.json names no image: none could be explained.",
        links=[Link(path, "predictions and how they were made, for programs"), Link(folder, "overlays, raw heatmaps")],
        notes=notes,
    )


def _facts(folder: Path, record: dict[str, Any]) -> list[Fact]:
    settings, runs, count, failed = record["settings"], record["runs"], len(record["images"]), record["errors"]
    classes, top, run = settings.get("--targets"), settings.get("--top"), runs[-1]
    few = "the most probable class" if top == 1 else f"the {top} most probable classes"
    seconds = [run.get("seconds") for run in runs]
    known = all(isinstance(taken, int | float) for taken in seconds)
    weights = f"{without_path(str(run['weights']))}, SHA-256 {str(settings['weights'])[:12]}…"
    facts = facts_of(
        About(
            run=folder.resolve().name,
            model=str(run["model"]),
            weights=weights,
            methods=(str(settings["--method"]),),
            settings=f"classes {', '.join(map(str, classes))}" if classes else few,
            date=str(run["started"])[:10],
            versions=run["versions"],
            device=str(run["device"]),
            cost=f"{duration(sum(seconds))} for {count:,} image{'s' * (count != 1)}" if known else "",
        )
    )
    return [
        Fact("Images", f"{count:,}"),
        *facts,
        *([Fact("Failed", f"{len(failed):,}", "Files that the last call could not read.")] if failed else []),
    ]


def _notes(record: dict[str, Any]) -> list[str]:
    config = record["settings"]["input"]
    if config["resize"] == "squash":
        return []
    share = percent(float(config["crop_pct"]))
    return [f"The model sees the central square, {share} of the shorter side: that is what is shown here."]


def _views(folder: Path, number: int, found: dict[str, Any], method: str) -> list[ExplainedImage]:
    view, arrays = (folder / inside(Path(found[key]).name, f"{folder / PREDICTIONS}") for key in ("view", "heatmaps"))
    image, heatmaps = read_image(view), _heatmaps(arrays)
    return [
        ExplainedImage(
            index=number,
            name=without_path(str(found["image"])),
            image=image,
            explained=str(entry["class"]),
            truth=(),
            predicted=str(found["predicted"]),
            probability=float(entry["probability"]),
            boxes=np.zeros((0, 4)),
            mask=None,
            heatmaps={method: heatmap},
        )
        for entry, heatmap in zip(found["classes"], heatmaps, strict=True)
    ]


def _heatmaps(path: Path) -> np.ndarray:
    try:
        refuse_bomb(path)
        with np.load(path, allow_pickle=False) as found:
            heatmaps: np.ndarray = found["heatmaps"]
            return heatmaps
    except Exception as error:  # a damaged zip raises errors of many kinds
        raise DataError(f"{path}: missing or broken ({brief(error)})") from error
