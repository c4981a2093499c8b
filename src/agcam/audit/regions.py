"""Fixed places that are hot across a class: corners, borders, frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm  # type: ignore[import-untyped]  # has no types

from agcam.audit.findings import Region
from agcam.audit.looks import Looks
from agcam.audit.places import HOT, density, places
from agcam.audit.reliance import LEAST

_MORE, _LEVEL = 1.25, 0.05


def hot_regions(looks: Looks, class_names: Sequence[str]) -> list[Region]:
    """Find places that are hotter than chance, over all looks or in a class; the hottest first.

    A place of the margin is hot if it is 1.5 times as hot as the whole image on average, and hotter than 1 beyond
    chance. One that is hot over all classes is listed once; for a single class it is listed where it is 1.25 times as
    hot as in the others, beyond chance. The level of 5 % is that of all comparisons together (Bonferroni).
    """
    grid = (int(looks.heat.shape[1]), int(looks.heat.shape[2]))
    margins = {name: place for name, place in places(grid).items() if name != "middle"}
    targets = [int(t) for t, count in zip(*np.unique(looks.target, return_counts=True), strict=True) if count >= LEAST]
    sure = float(norm.isf(_LEVEL / 2 / max(1, len(margins) * (len(targets) + 1))))
    found = []
    for name, place in margins.items():
        values = density(looks.heat, place).astype(np.float64)
        if _hotter(values, sure):
            found.append(Region("", name, float(values.mean()), float("nan"), len(values)))
        for target in targets:
            mine, others = values[looks.target == target], values[looks.target != target]
            if len(others) >= LEAST and _hotter(mine, sure) and _hotter_than(mine, others, sure):
                found.append(Region(class_names[target], name, float(mine.mean()), float(others.mean()), len(mine)))
    return sorted(found, key=lambda region: -region.density)


def _hotter(values: np.ndarray, sure: float) -> bool:
    return bool(values.mean() >= HOT and values.mean() - sure * _error(values) > 1)


def _hotter_than(mine: np.ndarray, others: np.ndarray, sure: float) -> bool:
    gap, error = mine.mean() - others.mean(), np.hypot(_error(mine), _error(others))
    return bool(mine.mean() >= _MORE * others.mean() and gap > sure * error)


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))
