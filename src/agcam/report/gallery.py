"""Make the gallery's data: explained images over the epochs, as the page's JavaScript reads them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from agcam.explainers.registry import is_control
from agcam.io.explained_images import ExplainedImage
from agcam.metrics.maps import fill_boxes
from agcam.report import glossary as words
from agcam.report.encode import Pictures, color_table, encode_map, encode_mask
from agcam.report.model import Chart, Report
from agcam.visualization.overlay import SIGNED_COLORMAP, resize_map

FRAMES = 60
"""The most epochs that a page holds, spread evenly."""
_DIGITS = 4
_T = TypeVar("_T")


def page_data(report: Report) -> dict[str, Any]:
    """Return all that the page's JavaScript needs: pictures, heatmaps, values, curves, and words for them."""
    frames = report.frames
    methods = _names(shown.heatmaps for frame in frames for shown in frame.shown)
    figures = _names(f for frame in frames for shown in frame.shown for f in shown.figures.values())
    curves = _names(c for frame in frames for shown in frame.shown for c in shown.curves.values())
    pictures, masks = Pictures(), _Masks()
    images: dict[tuple[int, str, int], dict[str, Any]] = {}
    for number, frame in enumerate(frames):
        for shown in frame.shown:
            picture = pictures.add(shown.image)
            key = (shown.index, shown.name, picture)
            entry = images.setdefault(
                key,
                {
                    "index": shown.index,
                    "name": shown.name,
                    "picture": picture,
                    "truth": list(shown.truth),
                    "frames": [None] * len(frames),
                },
            )
            entry["frames"][number] = [
                *(entry["frames"][number] or []),
                _view(shown, picture, masks, methods, figures),
            ]
    encoded = pictures.encoded()
    return {
        "kind": report.kind,
        # then the top-1 class decides nothing: each explained class is recognized or not
        "multilabel": any(shown.multilabel or len(shown.truth) > 1 for frame in frames for shown in frame.shown),
        "methods": [{"label": label, "help": words.method(label), "control": is_control(label)} for label in methods],
        "figures": [{"name": name} | vars(report.words.get(name) or words.value(name)) for name in figures],
        "curves": [{"name": name} | vars(words.curve(name)) for name in curves],
        "frames": [{"label": frame.label, "epoch": frame.epoch} for frame in frames],
        "lut": color_table(),
        "signed_lut": color_table(SIGNED_COLORMAP),
        "fill": list(report.fill),
        "pictures": encoded,
        "masks": masks.encoded(encoded),
        "images": list(images.values()),
        "charts": [_chart(chart) for chart in report.charts],
    }


def thin(frames: Sequence[_T]) -> list[_T]:
    """Return at most `FRAMES` frames, spread evenly, the first and the last among them."""
    if len(frames) <= FRAMES:
        return list(frames)
    return [frames[round(number * (len(frames) - 1) / (FRAMES - 1))] for number in range(FRAMES)]


class _Masks:
    """Masks, each kept once, for the pictures that they lie on."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, bytes], int] = {}
        self._masks: list[tuple[int, np.ndarray]] = []

    def add(self, mask: np.ndarray, picture: int) -> int:
        key = (picture, np.packbits(mask).tobytes())
        if key not in self._numbers:
            self._numbers[key] = len(self._masks)
            self._masks.append((picture, mask))
        return self._numbers[key]

    def encoded(self, pictures: list[dict[str, Any]]) -> list[list[int]]:
        return [encode_mask(mask, (pictures[n]["ph"], pictures[n]["pw"])) for n, mask in self._masks]


def _view(shown: ExplainedImage, picture: int, masks: _Masks, methods: list[str], figures: list[str]) -> dict[str, Any]:
    mask = shown.mask if shown.mask is not None and shown.mask.any() else None
    maps = [encode_map(shown.heatmaps[label]) if label in shown.heatmaps else None for label in methods]
    known = [shown.figures.get(label, {}) for label in methods]
    return {
        "explained": shown.explained,
        "predicted": shown.predicted,
        "p": _short(shown.probability),
        "predicted_p": None if shown.predicted_probability is None else _short(shown.predicted_probability),
        "shares": [_short(share) for share in shown.shares],
        "also": [[answer.name, _short(answer.probability)] for answer in shown.also],
        "other": _other(shown, methods),
        "boxes": [[_short(side, 1) for side in box] for box in shown.boxes.tolist()],
        "mask": None if mask is None else masks.add(mask, picture),
        "maps": maps,
        "hits": [_hit(shown, label) if found else None for label, found in zip(methods, maps, strict=True)],
        "figures": [[_short(mine.get(name, math.nan)) for name in figures] for mine in known],
        "curves": [
            {name: [_short(value) for value in curve] for name, curve in shown.curves.get(label, {}).items()}
            for label in methods
        ],
    }


def _other(shown: ExplainedImage, methods: list[str]) -> dict[str, Any] | None:
    """Return the other class of a mistaken image as a view of its own, as far as it is drawn."""
    if shown.other is None:
        return None
    maps = shown.other.heatmaps
    return {
        "explained": shown.other.name,
        "p": _short(shown.other.probability),
        "boxes": [],
        "mask": None,
        "maps": [encode_map(maps[label]) if label in maps else None for label in methods],
    }


def _hit(shown: ExplainedImage, label: str) -> bool | None:
    """Return whether the heatmap's peak lies on the object; None where no object is known."""
    if "pointing_game" in shown.figures.get(label, {}):
        value = shown.figures[label]["pointing_game"]
        return None if math.isnan(value) else value > 0
    size = (int(shown.image.shape[0]), int(shown.image.shape[1]))
    if shown.mask is not None and shown.mask.any():
        truth = shown.mask
    elif len(shown.boxes):
        truth = fill_boxes(shown.boxes, size)
    else:
        return None
    heat = resize_map(shown.heatmaps[label], size)
    return bool(heat.max() > 0 and truth.flat[heat.argmax()])  # a constant map points nowhere


def _chart(chart: Chart) -> dict[str, Any]:
    lines = [
        vars(line) | {"x": [_short(x) for x in line.x], "y": [_short(y, 6) for y in line.y]} for line in chart.lines
    ]
    return vars(chart) | {"lines": lines}


def _names(found: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in found for name in names))


def _short(value: float, digits: int = _DIGITS) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None
