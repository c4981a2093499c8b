"""How much of a decision rests on what lies outside the object, and when that is suspicious."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agcam.audit.looks import Looks
from agcam.audit.places import HOT, density, places

SUSPICIOUS = 0.1
"""From where on reliance is suspicious: a tenth of the class's probability hangs on what lies outside."""
LEAST = 8
"""Fewer looks say nothing."""
_SAMPLES = 1000


@dataclass(frozen=True)
class Reliance:
    """The share of the classes' probability that is lost with the hottest patches outside the objects hidden.

    Beyond what is lost with as many others outside hidden: 0 where the model does not need them, negative where they
    spoke against the class.

    Attributes:
        value: over all looks.
        low: lower end of its 95 % interval over looks (bootstrap).
        high: upper end.
        count: looks that were measured.
    """

    value: float
    low: float
    high: float
    count: int


def reliance(looks: Looks) -> Reliance:
    """Measure the reliance of looks; NaN where fewer than `LEAST` were measured."""
    measured = looks[np.isfinite(looks.lost)]
    count = len(measured)
    if count < LEAST or not measured.probability.sum() > 0:
        return Reliance(np.nan, np.nan, np.nan, count)
    lost, before = measured.lost.astype(np.float64), measured.probability.astype(np.float64)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), _SAMPLES)
    low, high = np.quantile((drawn @ lost) / (drawn @ before).clip(1e-12), (0.025, 0.975))
    return Reliance(float(lost.sum() / before.sum()), float(low), float(high), count)


def is_suspicious(looks: Looks, found: Reliance) -> bool:
    """Return whether decisions rest on what is no part of the objects.

    Where no object is known, what was hidden lies in the margin of the images. An object may reach there, so that a
    place of the margin has to be hotter than the image, too: photographers put objects into the middle.
    """
    if not found.low >= SUSPICIOUS:  # NaN
        return False
    if bool(looks.known.mean() >= 0.5):
        return True
    grid = (int(looks.heat.shape[1]), int(looks.heat.shape[2]))
    heat = looks.heat.mean(0)
    return any(density(heat, place) > HOT for name, place in places(grid).items() if name != "middle")
