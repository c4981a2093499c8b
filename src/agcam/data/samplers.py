"""Order training images and seed their augmentation, by functions of seed, epoch and position.

Nothing here depends on earlier draws. So a stopped run resumes in the middle of an epoch without
reading the images before, and shows the same images whatever the number of workers or, as long as batch size ×
processes stays the same, of processes.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from agcam.data.batch import Batch, Sample
from agcam.errors import InputError


def run_seed() -> int:
    """Return the seed given to `--seed_everything`, else 0."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def derive_seed(*parts: int) -> int:
    """Derive a seed (63 bits) from whole numbers; unlike sums, seeds of neighboring numbers do not collide."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


Labels = Sequence[tuple[int, ...]]


class SeededPosition(NamedTuple):
    """An image to show: its position in the data set and the seed of its augmentation."""

    position: int
    seed: int


class ResumableSampler(DistributedSampler[SeededPosition]):
    """Shuffles each epoch and distributes images over the processes; a `DistributedSampler` on one process, too.

    Args:
        dataset: whose positions are drawn.
        rank: of this process.
        world_size: number of processes.
        drop_last: leave out what does not divide evenly, rather than repeat images.
    """

    def __init__(self, dataset: Dataset[Any], rank: int = 0, world_size: int = 1, drop_last: bool = False) -> None:
        super().__init__(dataset, world_size, rank, shuffle=True, seed=run_seed(), drop_last=drop_last)
        self.start = 0
        """How many images of this process the next iteration skips."""

    def __iter__(self) -> Iterator[SeededPosition]:
        """Yield this epoch's images of this process; `set_epoch` chooses the epoch."""
        positions: Any = super().__iter__()  # torch's own shuffling; it is typed as if it gave `SeededPosition`s
        for position in itertools.islice(positions, self.start, None):
            yield SeededPosition(position, derive_seed(self.seed, self.epoch, position))


class BalancedSampler(ResumableSampler):
    """Draws images with replacement, so that an epoch shows each class about equally often.

    All processes draw the same list and take turns in it, so it does not depend on their number. An image that is
    drawn twice is augmented in two ways.

    Args:
        dataset: whose positions are drawn.
        labels: the classes of each image. The rarest of several decides; an image without any weighs as the commonest.
        rank: see `ResumableSampler`.
        world_size: see `ResumableSampler`.
        drop_last: see `ResumableSampler`.
    """

    def __init__(
        self, dataset: Dataset[Any], labels: Labels, rank: int = 0, world_size: int = 1, drop_last: bool = False
    ) -> None:
        super().__init__(dataset, rank, world_size, drop_last)
        count = Counter(itertools.chain.from_iterable(labels))
        commonest = max(count.values(), default=1)
        rarest = (min((count[label] for label in present), default=commonest) for present in labels)
        self.weights = torch.tensor([1 / n for n in rarest], dtype=torch.float64)

    def __iter__(self) -> Iterator[SeededPosition]:
        """Yield this epoch's images of this process."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        positions = torch.multinomial(self.weights, self.total_size, replacement=True, generator=generator).tolist()
        mine = range(self.rank, self.total_size, self.num_replicas)
        for turn in itertools.islice(mine, self.start, None):
            yield SeededPosition(positions[turn], derive_seed(self.seed, self.epoch, turn))


class SeededDataset(Dataset[Sample]):
    """A data set whose random transforms are governed by the `SeededPosition` that asks for an example."""

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # torch's Dataset promises no length, ours have one

    def __getitem__(self, index: SeededPosition | int) -> Sample:
        if isinstance(index, int):  # a sampler that is not ours, such as `overfit_batches` brings
            return self.dataset[index]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(index.seed)
            return self.dataset[index.position]


class TrainingLoader(DataLoader[Sample]):
    """A loader that can resume in the middle of an epoch: it skips earlier batches without reading them."""

    _resumed: Mapping[str, int] = MappingProxyType({"epoch": 0, "batches": 0})
    _done = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # batches are collated
        # a generator, so that workers start, and look at the epoch, when the first batch is asked for: Lightning
        # makes the iterator before it sets the epoch
        order = self.sampler
        self._done = self._resumed["batches"] if self._resumed["epoch"] == getattr(order, "epoch", 0) else 0
        if isinstance(order, ResumableSampler):
            order.start = self._done * (self.batch_size or 1)
        for batch in super().__iter__():
            self._done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return how far this epoch is; Lightning saves it in checkpoints."""
        return {"epoch": getattr(self.sampler, "epoch", 0), "batches": self._done, "images": self._images()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume after the batches of `state_dict` if its epoch is the next to run.

        Raises:
            InputError: if a batch of all processes together has another size: place and schedule count batches.
        """
        if (before := state.get("images", self._images())) != self._images():
            raise InputError(
                f"--data.batch_size × processes is {self._images()}, the checkpoint's run has {before}, and its place "
                "in data and schedule counts batches; give it the same, or start a new run from its weights "
                "(--model.weights)"
            )
        self._resumed = dict(state)

    def _images(self) -> int:
        """Count the images of a batch on all processes."""
        return (self.batch_size or 1) * getattr(self.sampler, "num_replicas", 1)
