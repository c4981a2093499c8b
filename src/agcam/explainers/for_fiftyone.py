"""Heatmaps as labels of FiftyOne, a tool to look through data sets; it is no dependency and imported when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from agcam.errors import InputError


def heatmap_labels(
    maps: np.ndarray, names: Sequence[Sequence[str]], probabilities: Sequence[Sequence[float | None]], method: str
) -> list[list[Any]]:
    """Make labels of heatmaps that cover their images.

    Args:
        maps: (B, T, h, w) float.
        names: (B, T), of the classes.
        probabilities: (B, T), of the classes; None where there is none.
        method: what made the maps.

    Returns:
        T `fiftyone.Heatmap` an image. Ranges begin at 0; where a map has negative values, they reach as far on both
        sides of it.

    Raises:
        InputError: where FiftyOne is not installed.
    """
    try:
        heatmap = import_module("fiftyone").Heatmap
    except ImportError:
        raise InputError("this needs FiftyOne, which is not installed: pip install fiftyone") from None
    return [
        [
            heatmap(map=one, range=_range(one), label=name, confidence=probability, method=method)
            for one, name, probability in zip(*row, strict=True)
        ]
        for row in zip(maps, names, probabilities, strict=True)
    ]


def _range(values: np.ndarray) -> list[float]:
    lowest, largest = float(values.min()), float(np.abs(values).max()) or 1.0
    return [-largest if lowest < 0 else 0.0, largest]
