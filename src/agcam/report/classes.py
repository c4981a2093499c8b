"""The figures of a model class by class, as the page shows them: the worst classes, and what is taken for what."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from agcam.metrics.classification.by_class import ACCURACY, AVERAGE_PRECISION, FOUND, ClassFigures
from agcam.report.encode import data_uri
from agcam.report.model import percent

MOST_CELLS = 12
"""Classes of a matrix whose cells hold numbers; one of more classes is a picture."""
_MOST_PAIRS = 20
_INK = (203, 88, 24)
_HEADS = {
    ACCURACY: ("Accuracy", "Share of the class's images that are taken for it."),
    AVERAGE_PRECISION: (
        "Average precision",
        "How well the class's images are ranked above the others by the probability of the class. 1 is perfect.",
    ),
    FOUND: ("Found (recall)", "Share of the class's images to which the model gives the class more than 50 %."),
}


@dataclass(frozen=True)
class Confusion:
    """A matrix: what images show, down, and what they are taken for, across.

    Attributes:
        names: of the classes.
        cells: numbers of images with a level of shade from 0 to 10, rows of cells; empty where there is a picture.
        picture: a PNG as a data URI, a pixel for each cell; empty where there are cells.
    """

    names: list[str]
    cells: list[list[tuple[int, int]]]
    picture: str


@dataclass(frozen=True)
class Classes:
    """All that the page shows of classes.

    Attributes:
        score: name and meaning of the score.
        rows: class, number of images, score, overlap: the worst classes first.
        pairs: shown class, predicted class, number of images, share of the class: the most frequent first.
        confusion: None of data with several classes an image.
    """

    score: tuple[str, str]
    rows: list[tuple[str, str, str, str]]
    pairs: list[tuple[str, str, str, str]]
    confusion: Confusion | None


def show_classes(found: ClassFigures) -> Classes:
    """Sort and write the figures; classes that no image shows are left out of the rows."""
    shown = [c for c, number in enumerate(found.images) if number]
    order = sorted(shown, key=lambda c: (math.inf if math.isnan(found.score[c]) else found.score[c], found.names[c]))
    rows = [(found.names[c], f"{found.images[c]:,}", _decimal(found.score[c]), _decimal(found.iou[c])) for c in order]
    wrong = sorted((entry for entry in found.confused if entry[0] != entry[1]), key=lambda entry: -entry[2])
    pairs = [
        (found.names[label], found.names[said], f"{count:,}", percent(count / found.images[label]))
        for label, said, count in wrong[:_MOST_PAIRS]
    ]
    return Classes(_HEADS[found.score_name], rows, pairs, _confusion(found) if found.confused else None)


def _confusion(found: ClassFigures) -> Confusion:
    used = sorted({c for label, said, _ in found.confused for c in (label, said)})
    place = {c: number for number, c in enumerate(used)}
    counts = np.zeros((len(used), len(used)), np.int64)
    for label, said, count in found.confused:
        counts[place[label], place[said]] = count
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    names = [found.names[c] for c in used]
    if len(used) > MOST_CELLS:
        return Confusion(names, [], _picture(shares))
    levels = np.ceil(10 * shares).astype(int)
    cells = [list(zip(*row, strict=True)) for row in zip(counts.tolist(), levels.tolist(), strict=True)]
    return Confusion(names, cells, "")


def _picture(shares: np.ndarray) -> str:
    """Draw shares as opacity, so that it can be seen on light and on dark paper; single images stay visible."""
    pixels = np.zeros((*shares.shape, 4), np.uint8)
    pixels[..., :3] = _INK
    pixels[..., 3] = np.where(shares > 0, 60 + 195 * np.sqrt(shares), 0).round()
    return data_uri(pixels)


def _decimal(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
