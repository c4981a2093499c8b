"""Which class each training image shows: drawing classes equally often, and telling of those without any image."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from agcam.data.order import Draw, TrainingOrder, derive_seed
from agcam.data.source import Source

log = logging.getLogger(__name__)
Labels = Sequence[tuple[int, ...]]


class BalancedOrder(TrainingOrder):
    """Draws images with replacement, so that an epoch shows each class about equally often.

    All processes draw the same list and take turns in it, so it does not depend on their number. An image that is
    drawn twice is augmented in two ways.

    Args:
        dataset: whose positions are drawn.
        labels: the classes of each image. Where there are several the rarest decides; none count as the commonest.
        rank: see `TrainingOrder`.
        world_size: see `TrainingOrder`.
        drop_last: see `TrainingOrder`.
    """

    def __init__(
        self, dataset: Dataset[Any], labels: Labels, rank: int = 0, world_size: int = 1, drop_last: bool = False
    ) -> None:
        super().__init__(dataset, rank, world_size, drop_last)
        count = Counter(itertools.chain.from_iterable(labels))
        commonest = max(count.values(), default=1)
        rarest = (min((count[label] for label in present), default=commonest) for present in labels)
        self.weights = torch.tensor([1 / n for n in rarest], dtype=torch.float64)

    def __iter__(self) -> Iterator[Draw]:
        """This epoch's images of this process."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        positions = torch.multinomial(self.weights, self.total_size, replacement=True, generator=generator).tolist()
        mine = range(self.rank, self.total_size, self.num_replicas)
        for turn in itertools.islice(mine, self.start, None):
            yield Draw(positions[turn], derive_seed(self.seed, self.epoch, turn))


def known_labels(source: Source) -> Labels | None:
    """The classes of each image where a source lists its files; None where they take reading every image."""
    items = getattr(getattr(source, "source", source), "items", None)  # a cache holds the source that lists them
    return None if items is None else [item.labels for item in items]


def labels_of(source: Source) -> Labels:
    """The classes of each image, if need be by reading every one."""
    known = known_labels(source)
    return [source[i].labels for i in range(len(source))] if known is None else known


def warn_of_missing_classes(source: Source) -> None:
    """Say which classes have no image to learn from; training on a part of the data is no error."""
    labels = known_labels(source)
    if labels is None:
        return
    present = set(itertools.chain.from_iterable(labels))
    missing = [name for number, name in enumerate(source.class_names) if number not in present]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        log.warning(
            "%d of %d classes have no training image: %s%s; the model cannot learn them",
            len(missing),
            len(source.class_names),
            ", ".join(missing[:5]),
            more,
        )
