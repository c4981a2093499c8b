"""How much heatmaps change from one epoch to the next."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from agcam.metrics.map_statistics import map_drift

REMEMBERED = 4096
"""Images whose heatmaps are kept until the next epoch: 1.6 MB a method on a patch grid of 14×14, in all processes."""


class DriftMemory:
    """Keep the heatmaps of one method until the next epoch, in float16, and tell how much they have changed by then."""

    def __init__(self) -> None:
        self._before: dict[tuple[int, int], np.ndarray] = {}
        self._now: dict[tuple[int, int], np.ndarray] = {}

    def drift(self, keys: Sequence[tuple[int, int]], keep: Tensor, heatmaps: Tensor) -> Tensor:
        """Return the drift (P,) float64 of heatmaps (P, h, w) since the epoch before; NaN where there was none.

        Args:
            keys: for each heatmap the position of its image in the data set, and its class.
            keep: (P,) bool, the ones to remember.
            heatmaps: any units.
        """
        found = torch.full((len(keys),), math.nan, dtype=torch.float64)
        low, high = heatmaps.amin((1, 2), keepdim=True), heatmaps.amax((1, 2), keepdim=True)
        # float16 has 11 bits from 6e-5 on: [0, 1] suits it, a method's own units need not
        maps = ((heatmaps - low) / (high - low)).nan_to_num(0.0, 0.0, 0.0).half().cpu().numpy()
        self._now |= {keys[row]: maps[row].copy() for row in keep.nonzero().flatten().tolist()}
        shapes = {row: self._before[key].shape for row, key in enumerate(keys) if key in self._before}
        known = [row for row, shape in shapes.items() if shape == maps.shape[1:]]
        if known:
            before = np.stack([self._before[keys[row]] for row in known])
            found[known] = map_drift(torch.from_numpy(before).float(), torch.from_numpy(maps[known]).float())
        return found

    def end_epoch(self) -> None:
        """Make the maps of this epoch those of the epoch before."""
        self._before, self._now = self._now, {}
