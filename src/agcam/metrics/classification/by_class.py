"""How good a classifier is class by class, and what it takes for what; exact however the images were dealt out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from agcam.metrics.classification.average_precision import average_precision

ACCURACY, AVERAGE_PRECISION, FOUND = "accuracy", "average precision", "found"
CLASSES = "classes.json"
"""The file of a run's epoch that holds them."""
_AT_ONCE = 2**22


@dataclass(frozen=True)
class ClassFigures:
    """The figures of C classes.

    Attributes:
        names: of the classes.
        images: how many images show each.
        score_name: what `score` is: "accuracy", the share of a class's images that are taken for it; "average
            precision"; or "found", the share of a class's images that give it more than one half.
        score: by class; NaN where no image shows it.
        iou: by class, the mean overlap of heatmap and object; NaN where unknown.
        confused: label, predicted class and number of images, where that is not 0; of single-label data only.
    """

    names: list[str]
    images: list[int]
    score_name: str
    score: list[float]
    iou: list[float]
    confused: list[list[int]] = field(default_factory=list)


def mean_by_class(classes: np.ndarray, values: np.ndarray, count: int) -> list[float]:
    """Return the mean (C,) of the values (P,) of each class; NaN values are left out, NaN where there is none."""
    known = ~np.isnan(values)
    sums = np.bincount(classes[known], values[known], minlength=count)
    numbers = np.bincount(classes[known], minlength=count)
    return [float(s / n) if n else math.nan for s, n in zip(sums, numbers, strict=True)]


def single_label_figures(
    names: Sequence[str], label: np.ndarray, predicted: np.ndarray, iou: Sequence[float]
) -> ClassFigures:
    """Count what images are taken for.

    Args:
        names: of C classes.
        label: (N,) int, the class that each image shows.
        predicted: (N,) int.
        iou: by class, see `ClassFigures`.
    """
    count = len(names)
    cells, numbers = np.unique(label.astype(np.int64) * count + predicted, return_counts=True)
    confused = [[int(cell // count), int(cell % count), int(n)] for cell, n in zip(cells, numbers, strict=True)]
    images = np.bincount(label, minlength=count)
    right = np.bincount(label[label == predicted], minlength=count)
    score = [float(r / n) if n else math.nan for r, n in zip(right, images, strict=True)]
    return ClassFigures(list(names), images.tolist(), ACCURACY, score, list(iou), confused)


def multi_label_figures(
    names: Sequence[str], logits: np.ndarray, truth: np.ndarray, iou: Sequence[float]
) -> ClassFigures:
    """Compute the average precision of each class.

    Args:
        names: of C classes.
        logits: (N, C) float.
        truth: (N, C) bool.
        iou: by class, see `ClassFigures`.
    """
    scores, shown = torch.from_numpy(logits.T), torch.from_numpy(truth.T)
    step = max(1, _AT_ONCE // max(1, scores.shape[1]))
    parts = [slice(start, start + step) for start in range(0, len(scores), step)]
    found = torch.cat([average_precision(scores[part], shown[part]) for part in parts]).tolist()
    broken = bool(np.isnan(logits).any())
    images = truth.sum(0).tolist()
    score = [math.nan if broken or not n else float(ap) for ap, n in zip(found, images, strict=True)]
    return ClassFigures(list(names), images, AVERAGE_PRECISION, score, list(iou))
