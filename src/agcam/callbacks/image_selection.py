"""Which images are shown: the same ones in every epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from agcam.callbacks.gallery import evenly_spaced, gather
from agcam.data.labels import read_labels
from agcam.errors import InputError
from agcam.io.explained_images import ExplainedImage

GalleryBy = Literal["index", "class", "hardest"]


class ImageSelection:
    """Choose the images to show, once for a stage, and collect them in every epoch.

    Args:
        size: how many.
        by: "index": evenly spaced among the explained ones; "class": each class in turn; "hardest": those to whose
            label the model gives the lowest probability in the first explained epoch.
    """

    def __init__(self, size: int, by: GalleryBy) -> None:
        if by not in ("index", "class", "hardest"):
            raise InputError(f"explanation.gallery_by must be 'index', 'class' or 'hardest', found {by!r}")
        if size < 0:
            raise InputError(f"explanation.gallery must be at least 0, found {size}")
        self.size = size
        self.by = by
        self.chosen: dict[str, list[int]] = {}
        self._explained: list[ExplainedImage] = []
        self._hardness: dict[int, float] = {}

    def begin(self, stage: str, dataset: Any, explained: int) -> None:
        """Start an epoch over the first `explained` images of a data set.

        Raises:
            InputError: if images are chosen by class and the data set has no source of examples.
        """
        self._explained, self._hardness = [], {}
        if self.by == "index":  # batches may be more or fewer than the last time
            self.chosen[stage] = sorted(evenly_spaced(explained, self.size))
        elif self.by == "class" and stage not in self.chosen:
            self.chosen[stage] = by_class(_explained_labels(dataset, explained), self.size)

    def wants(self, stage: str, index: Sequence[int], probability: Sequence[float]) -> list[bool]:
        """Return for each explained pair of an image and its label whether to show it, as far as is known yet.

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
        self._explained = [image for image in self._explained if image.index in self._hardness]
        return [i in self._hardness for i in index]

    def add(self, explained: Iterable[ExplainedImage]) -> None:
        """Add the images that `wants` asked for."""
        self._explained += explained

    def end(self, stage: str) -> list[ExplainedImage]:
        """Return the chosen images of all processes, in the order of the data set; the same on every process."""
        if stage not in self.chosen:
            found = gather(list(self._hardness.items()))
            if not found:
                return []
            self.chosen[stage] = sorted(index for index, _ in _hardest(found, self.size))
        mine = [image for image in self._explained if image.index in self.chosen[stage]]
        self._explained = []
        return sorted(gather(mine), key=lambda image: image.index)


def by_class(labels: Sequence[Iterable[int]], size: int) -> list[int]:
    """Choose `size` positions of images: each class in turn gives its first image that is not taken yet.

    Where there are more classes than places, evenly spaced classes get one.

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
        classes = [classes[place] for place in sorted(evenly_spaced(len(classes), size))]
    queues = [iter(members[label]) for label in classes]
    taken: dict[int, None] = {}
    while queues and len(taken) < size:
        queues = [queue for queue in queues if _take(queue, taken, size)]
    return sorted(taken)


def _explained_labels(dataset: Any, count: int) -> Sequence[Sequence[int]]:
    """Return the classes of the first `count` images of a data set."""
    source = getattr(dataset, "source", None)
    if source is None:
        raise InputError(
            f"explanation.gallery_by 'class' needs the labels of {type(dataset).__name__}, which has no `source` of "
            "examples; take 'index' or 'hardest'"
        )
    return read_labels(source, count)


def _take(queue: Iterator[int], taken: dict[int, None], size: int) -> bool:
    """Take the next image of a class; False if it has no more."""
    if len(taken) >= size:
        return False
    position = next((position for position in queue if position not in taken), None)
    if position is not None:
        taken[position] = None
    return position is not None


def _hardest(hardness: Iterable[tuple[int, float]], size: int) -> list[tuple[int, float]]:
    return sorted(hardness, key=lambda entry: (entry[1], entry[0]))[:size]
