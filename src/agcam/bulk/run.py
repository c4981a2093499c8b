"""Explain the shards that are left: read ahead, explain, write beside the next batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from filelock import FileLock

from agcam.bulk.listing import Shard
from agcam.bulk.manifest import ShardFolder
from agcam.bulk.processes import Process
from agcam.bulk.reading import ImageReader, ReadImage, Unread, batches_of
from agcam.bulk.shard_file import Footer, ShardRows, write_shard
from agcam.data.photographs import Photograph, PhotographMaker
from agcam.data.read_ahead import read_ahead
from agcam.errors import DataError
from agcam.explainers.explanation import Explanation
from agcam.training.explain_batch import Request, explain_batch, probabilities
from agcam.training.loaded import LoadedModel

Listing = Callable[[Counter[str]], Iterator[Shard]]
Draw = Callable[[int, Sequence[Photograph], Explanation], None]


@dataclass(frozen=True)
class Loading:
    """How images are read.

    Attributes:
        batch_size: images in a batch.
        workers: threads that read.
        max_errors: how many images may fail; one more stops the run.
        max_side: longest side of the pictures that are kept for drawing; None keeps none.
    """

    batch_size: int = 16
    workers: int = 1
    max_errors: int = 100
    max_side: int | None = None


@dataclass
class Totals:
    """What a call did.

    Attributes:
        listed: shards in the listing.
        images: images explained, those that failed included.
        errors: images of this process's shards that failed, in earlier calls, too.
        last_error: of this call.
        left_out: files in folders on disk that are no images, by kind.
    """

    listed: int = 0
    images: int = 0
    errors: int = 0
    last_error: str = ""
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, eq=False)
class _EndOfShard:
    """Comes after the last batch of a shard."""

    shard: Shard


def explain_shards(
    subject: LoadedModel,
    request: Request,
    folder: ShardFolder,
    listing: Listing,
    about: dict[str, Any],
    loading: Loading,
    process: Process,
    done: Callable[[int], None] = lambda count: None,
    draw: Draw | None = None,
) -> Totals:
    """Explain every shard that is not done and that no other process is at work on.

    A process takes the shards whose number modulo the count of processes is its rank; then what the others have left.
    Memory does not grow with the number of images.

    Args:
        subject: the model and what it needs.
        request: what to explain.
        folder: where shards are written.
        listing: yields all shards, the same in every call and process; counts files that are no images.
        about: what made them, for the files.
        loading: how images are read.
        process: which of several processes this is.
        done: called with the number of images of each batch.
        draw: called with the shard's number and each batch, to draw it.

    Raises:
        DataError: if too many images fail, or a shard's file is broken.
        InputError: if a shard is done, but with other images.
        OutputError: if a shard cannot be written.
    """
    work = _Work(folder, listing, loading, process)
    reader = ImageReader(PhotographMaker(subject.input_config, loading.max_side))
    rows = ShardRows()

    def read(item: Unread | _EndOfShard) -> ReadImage | _EndOfShard:
        return item if isinstance(item, _EndOfShard) else reader(item)

    with work, ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
        for found in read_ahead(work.batches(), read, loading.workers):
            if isinstance(found[0], _EndOfShard):
                shard = found[0].shard
                task = (folder.path_of(shard), rows, shard.number, shard.key, about)
                work.written(shard, writer.submit(write_shard, *task))
                rows = ShardRows()
                continue
            images = [image for image in found if isinstance(image, ReadImage)]
            for image in images:
                if image.error:
                    work.failed(image.error)
            explanation = explain_read(subject, request, images, rows)
            if draw is not None and explanation is not None:
                draw(images[0].shard, [image.photograph for image in images if image.photograph], explanation)
            work.totals.images += len(images)
            done(len(images))
        work.wait()
    return work.totals


def explain_read(
    subject: LoadedModel, request: Request, images: Sequence[ReadImage], rows: ShardRows
) -> Explanation | None:
    """Explain a batch of images that were read, and add a row for each; None if none could be read."""
    photographs = [image.photograph for image in images if image.photograph is not None]
    rows.add([image.name for image in images], [image.error or None for image in images])
    if not photographs:
        return None
    device = next(subject.model.parameters()).device
    explanation = explain_batch(subject, torch.stack([photo.image for photo in photographs]).to(device), request)
    shares = probabilities(subject, explanation.logits).gather(1, explanation.targets.cpu())
    rows.add_explained([photograph.size for photograph in photographs], explanation, shares.numpy().astype(np.float32))
    return explanation


class _Work:
    """The batches of the shards that this process takes, and what became of them; gives all claims back at the end."""

    def __init__(self, folder: ShardFolder, listing: Listing, loading: Loading, process: Process) -> None:
        self.totals = Totals()
        self._folder, self._listing, self._loading, self._process = folder, listing, loading, process
        self._claims: dict[Shard, FileLock] = {}
        self._writing: tuple[Shard, Future[Footer]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for shard, lock in self._claims.items():
            self._folder.release(shard, lock)
        self._claims.clear()

    def batches(self) -> Iterator[Sequence[Unread | _EndOfShard]]:
        """Yield the batches of one shard after the other, each shard claimed before it is read."""
        for own in (True, False):
            for shard in self._listing(self.totals.left_out if own else Counter()):
                self.totals.listed += own
                if own != (shard.number % self._process.count == self._process.rank):
                    continue
                errors = self._folder.errors_if_done(shard)
                if errors is not None and own:
                    self._count(errors)
                if errors is not None or not self._claim(shard):
                    continue
                yield from batches_of(shard, self._loading.batch_size)
                yield [_EndOfShard(shard)]
            if self._process.count == 1:
                return

    def failed(self, error: str) -> None:
        """Count an image that failed."""
        self.totals.last_error = error
        self._count(1)

    def written(self, shard: Shard, future: Future[Footer]) -> None:
        """Take note that a shard is being written; wait for the one before it."""
        self.wait()
        self._writing = shard, future

    def wait(self) -> None:
        """Wait for the shard that is being written."""
        if self._writing is not None:
            shard, future = self._writing
            self._writing = None
            future.result()
            self._folder.release(shard, self._claims.pop(shard))

    def _claim(self, shard: Shard) -> bool:
        lock = self._folder.claim(shard)
        if lock is None:
            return False
        if self._folder.path_of(shard).is_file():  # another process has just finished it
            self._folder.release(shard, lock)
            return False
        self._claims[shard] = lock
        return True

    def _count(self, errors: int) -> None:
        self.totals.errors += errors
        if self.totals.errors > self._loading.max_errors:
            last = f", the last: {self.totals.last_error}" if self.totals.last_error else ""
            raise DataError(
                f"{self.totals.errors} images failed, more than --max-errors {self._loading.max_errors}{last}; the "
                "column `error` of finished shards has the others; look at the input, or allow more"
            )
