"""Read the output of `agcam images` into a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from agcam.errors import DataError, brief
from agcam.io.archives import refuse_bomb
from agcam.io.explained_images import ExplainedImage
from agcam.io.images import read_image
from agcam.io.json import RECORD
from agcam.io.text import inside
from agcam.report.facts import About, duration, facts_of, read_record, without_path
from agcam.report.model import Fact, Frame, Link, Report

PREDICTIONS = "predictions.json"


def images_report(folder: Path) -> Report:
    """Read a folder of explained photographs.

    Raises:
        DataError: if a file is missing or broken, with its name.
    """
    path = folder / PREDICTIONS
    try:
        predictions = json.loads(path.read_text(encoding="utf-8"))
        shown = [view for number, found in enumerate(predictions) for view in _views(folder, number, found)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: not what agcam images writes ({type(error).__name__}: {brief(error)}); "
            "explain the photographs again"
        ) from error
    return Report(
        kind="images",
        title=f"Where the model looks: {folder.resolve().name}",
        facts=_facts(folder, len(predictions)),
        frames=[Frame("images", None, shown)] if shown else [],
        empty="" if shown else "predictions.json names no image: none could be explained.",
        links=[Link(path, "predictions, for programs"), Link(folder, "overlays and raw heatmaps")],
    )


def _facts(folder: Path, count: int) -> list[Fact]:
    about = read_record(folder / RECORD)
    seconds, versions, methods = about.get("seconds"), about.get("versions"), about.get("methods")
    facts = facts_of(
        About(
            run=folder.resolve().name,
            model=str(about.get("model") or ""),
            weights=str(about.get("weights") or ""),
            methods=tuple(map(str, methods)) if isinstance(methods, list) else ("agcam",),
            settings=str(about.get("settings") or ""),
            date=str(about.get("date") or "")[:10],
            versions=versions if isinstance(versions, dict) else None,
            device=str(about.get("device") or ""),
            cost=f"{duration(seconds)} for {count:,} images" if isinstance(seconds, int | float) else "",
        )
    )
    return [*facts, Fact("Images", f"{count:,}")]


def _views(folder: Path, number: int, found: dict[str, Any]) -> list[ExplainedImage]:
    if "view" not in found:
        raise DataError(f"{folder / PREDICTIONS}: written by an older version; explain the photographs again")
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
            heatmaps={"agcam": heatmap},
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
