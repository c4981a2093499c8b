"""What ties the epochs together: which images are shown in each, and what the heatmaps were the time before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from agcam.callbacks.gallery import gather, spread
from agcam.errors import InputError
from agcam.io.explained_images import ExplainedImage
from agcam.metrics.map_statistics import map_drift

GalleryBy = Literal["index", "class", "hardest"]
REMEMBERED = 4096
"""Images whose heatmaps are kept until the next epoch: 1.6 MB a method on a patch grid of 14×14, in all processes."""


class Panel:
    """The images that are shown, the same ones every time.

    Args:
        size: how many.
        by: "index": spread evenly over the explained ones; "class": each class in turn; "hardest": those to whose
            label the model gives the lowest probability the first time.
    """

    def __init__(self, size: int, by: GalleryBy) -> None:
        if by not in ("index", "class", "hardest"):
            raise InputError(f"explanation.gallery_by must be 'index', 'class' or 'hardest', found {by!r}")
        if size < 0:
            raise InputError(f"explanation.gallery must be at least 0, found {size}")
        self.size = size
        self.by = by
        self.chosen: dict[str, list[int]] = {}
        self._shown: list[ExplainedImage] = []
        self._hardness: dict[int, float] = {}

    def begin(self, stage: str, dataset: Any, explained: int) -> None:
        """Begin an epoch over the first `explained` images of a data set. Sets are chosen once for a stage."""
        self._shown, self._hardness = [], {}
        if self.by == "index":  # batches may be more or fewer than the last time
            self.chosen[stage] = sorted(spread(explained, self.size))
        elif self.by == "class" and stage not in self.chosen:
            self.chosen[stage] = by_class(labels_of(dataset, explained), self.size)

    def wants(self, stage: str, index: Sequence[int], probability: Sequence[float]) -> list[bool]:
        """For each explained pair of an image and its label whether the image is to be shown, as far as is known yet.

        Args:
            stage: "val" or "test".
            index: positions in the data set, all pairs of an image together.
            probability: of the label.
        """
        if (chosen := self.chosen.get(stage)) is not None:
            return [i in chosen for i in index]
        for i, p in zip(index, probability, strict=True):
            self._hardness[i] = min(p, self._hardness.get(i, math.inf))
        self._hardness = dict(_hardest(self._hardness.items(), self.size))
        self._shown = [shown for shown in self._shown if shown.index in self._hardness]
        return [i in self._hardness for i in index]

    def add(self, shown: Iterable[ExplainedImage]) -> None:
        """Add what was asked for."""
        self._shown += shown

    def end(self, stage: str) -> list[ExplainedImage]:
        """What is shown, from all processes, in the order of the data set; on every process."""
        if stage not in self.chosen:
            found = gather(list(self._hardness.items()))
            if not found:
                return []
            self.chosen[stage] = sorted(index for index, _ in _hardest(found, self.size))
        mine = [shown for shown in self._shown if shown.index in self.chosen[stage]]
        self._shown = []
        return sorted(gather(mine), key=lambda shown: shown.index)


class Memory:
    """The heatmaps of one method as they were the last time, in float16, of the images that it is told to keep."""

    def __init__(self) -> None:
        self._before: dict[tuple[int, int], np.ndarray] = {}
        self._now: dict[tuple[int, int], np.ndarray] = {}

    def drift(self, keys: Sequence[tuple[int, int]], keep: Tensor, heatmaps: Tensor) -> Tensor:
        """The drift (P,) float64 of heatmaps (P, h, w) since the last time; NaN where there was none.

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

    def turn(self) -> None:
        """End the epoch: what is now is what was, next time."""
        self._before, self._now = self._now, {}


def by_class(labels: Sequence[Iterable[int]], size: int) -> list[int]:
    """`size` positions of images, each class in turn giving its first image that is not taken yet.

    Where there are more classes than places, the classes are spread evenly over them.

    Args:
        labels: for each image the classes that it shows.
        size: how many.
    """
    members: dict[int, list[int]] = {}
    for position, classes in enumerate(labels):
        for label in classes:
            members.setdefault(label, []).append(position)
    classes = sorted(members)
    if len(classes) > size:
        classes = [classes[place] for place in sorted(spread(len(classes), size))]
    queues = [iter(members[label]) for label in classes]
    taken: dict[int, None] = {}
    while queues and len(taken) < size:
        queues = [queue for queue in queues if _take(queue, taken, size)]
    return sorted(taken)


def labels_of(dataset: Any, count: int) -> list[tuple[int, ...]]:
    """The classes of the first `count` images of a data set, read without the images where it lists them.

    Raises:
        InputError: if the data set has no source of examples (`agcam.data.source`).
    """
    source = getattr(dataset, "source", None)
    if source is None:
        raise InputError(
            f"explanation.gallery_by 'class' needs the labels of {type(dataset).__name__}, which has no `source` of "
            "examples; take 'index' or 'hardest'"
        )
    entries = getattr(source, "items", source)
    return [tuple(entries[position].labels) for position in range(count)]


def _take(queue: Any, taken: dict[int, None], size: int) -> bool:
    """Take the next image of a class; False if it has no more."""
    if len(taken) >= size:
        return False
    position = next((position for position in queue if position not in taken), None)
    if position is not None:
        taken[position] = None
    return position is not None


def _hardest(hardness: Iterable[tuple[int, float]], size: int) -> list[tuple[int, float]]:
    return sorted(hardness, key=lambda entry: (entry[1], entry[0]))[:size]
