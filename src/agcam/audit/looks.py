"""Looks: where a model looked for one class in one image, and what that was worth. Plain arrays, one row a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

RIGHT, MISSED, WRONG = range(3)
"""The class is there and was predicted; is there and was not; was predicted and is not there."""


@dataclass(frozen=True, eq=False)
class Looks:
    """N explained pairs of an image and a class.

    Attributes:
        index: (N,) int64, position of the image in the data set.
        name: (N,) str, its name.
        target: (N,) int64, the explained class.
        other: (N,) int64, in single-label data what the image was taken for where the look is `MISSED`, and what it is
            where the look is `WRONG`; else the target.
        outcome: (N,) int64, `RIGHT`, `MISSED` or `WRONG`.
        decides: (N,) bool, whether the look explains a decision: in single-label data that for the predicted class.
        probability: (N,) of the target.
        heat: (N, h, w) float32, the share of the heatmap's energy in each patch; all 0 for a map without any.
        object: (N, h, w) float32, the share of each patch that its object covers; NaN where no object is known.
        hit: (N,) float32, 1 where the hottest point lies on the object, 0 where it does not, NaN where none is known.
        features: (N, D) float32, the mean of the patches' features, weighted by heat.
        hidden: (N, h, w) bool, the patches that were hidden: the hottest ones outside the object.
        kept: (N,) the target's probability with these patches hidden; NaN where there were none to hide.
        control: (N,) the same with as many others outside the object hidden, a mean over draws.
    """

    index: np.ndarray
    name: np.ndarray
    target: np.ndarray
    other: np.ndarray
    outcome: np.ndarray
    decides: np.ndarray
    probability: np.ndarray
    heat: np.ndarray
    object: np.ndarray
    hit: np.ndarray
    features: np.ndarray
    hidden: np.ndarray
    kept: np.ndarray
    control: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: np.ndarray) -> Self:
        """Return the looks at rows, numbers or bool."""
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Join the looks of several batches."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    @property
    def known(self) -> np.ndarray:
        """Whether the object is known, (N,) bool."""
        found: np.ndarray = np.isfinite(self.object).all((1, 2))
        return found

    @property
    def outside(self) -> np.ndarray:
        """The share of the heat outside the object, (N,) in [0, 1]; NaN where no object is known."""
        found: np.ndarray = 1 - (self.heat * self.object).sum((1, 2))
        found[self.heat.sum((1, 2)) == 0] = np.nan
        return found

    @property
    def lost(self) -> np.ndarray:
        """How much of the target's probability hangs on the hidden patches, beyond the control, (N,)."""
        found: np.ndarray = self.control - self.kept
        return found
