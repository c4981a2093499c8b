"""Decode and shrink images once, into one memory-mapped file for all epochs, loader workers and processes."""

from __future__ import annotations

import hashlib
import logging
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from filelock import BaseFileLock, FileLock, Timeout

from agcam.console.progress import progress
from agcam.data.batch import Example
from agcam.data.cores import usable_cores
from agcam.data.source import ExampleDataset, FileDataset
from agcam.errors import DataError

log = logging.getLogger(__name__)
_MAGIC = b"agcam-1\n"
# magic, fingerprint, bytes of the whole file; then a row for each image; then image, mask, image, mask, …
_HEADER = struct.Struct("<8s32sq16x")
_ROW = np.dtype([("offset", "<i8"), ("size", "<i4", 2), ("original", "<i4", 2), ("has_mask", "<i8")])


class CachedDataset:
    """A `FileDataset` whose images and masks are decoded and shrunk once; later reads copy them from one file.

    The file is named after the paths of the images and `size`, so that data sets, splits and sizes can share a folder.
    It is built when it is missing, broken, or when any image or mask file has changed in size or time; one process
    builds, others wait. Labels and boxes come from the source. Images are shrunk by averaging over areas, masks by
    their nearest pixel, boxes along with them; nothing is enlarged.

    Args:
        source: what to cache.
        folder: where the file lies; made if there is none.
        size: the shorter side of a stored image, at most. A 3:2 photograph takes 4.5 × size² bytes, its mask a third.

    Raises:
        DataError: if the source reads no files, one of its files is bad, or the cache cannot be written or read.
    """

    def __init__(self, source: ExampleDataset, folder: Path, size: int) -> None:
        if not isinstance(source, FileDataset):
            raise DataError(
                f"{type(source).__name__} reads no image files, so there is nothing to cache: leave out cache"
            )
        if size < 1:
            raise DataError(f"cache_size is {size}, expected pixels: 1 or more")
        self.source = source
        self.class_names = source.class_names
        self.multilabel = source.multilabel
        self.size = size
        name, self._fingerprint = _digests(source, size)
        self.path = folder / f"{name}.images"
        self._data: np.ndarray | None = None
        if self._open() is not None:
            self._build_once()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        item = self.source.items[index]
        data, row = self._row(index)
        (height, width), start = row["size"].tolist(), int(row["offset"])
        pixels = height * width
        end = start + (4 if row["has_mask"] else 3) * pixels
        if start < 0 or min(height, width, *row["original"]) < 1 or end > len(data):
            raise DataError(f"{self.path}: the cache is broken at image {index}; delete it, and it is built again")
        image = np.array(data[start : start + 3 * pixels]).reshape(height, width, 3)
        mask = None
        if row["has_mask"]:
            mask = np.array(data[start + 3 * pixels : end]).reshape(height, width)
        boxes = item.boxes
        if boxes is not None:
            by_y, by_x = row["size"] / row["original"]
            boxes = (boxes * np.array([by_x, by_y, by_x, by_y])).astype(np.float32)
        return Example(image, item.labels, boxes, item.box_labels, mask, item.name)

    def original_size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image as its file has it, upright."""
        height, width = self._row(index)[1]["original"].tolist()
        return height, width

    def _row(self, index: int) -> tuple[np.ndarray, np.void]:
        """Return all bytes of the file, and what they say of an image."""
        if self._data is None and (fault := self._open()) is not None:
            raise DataError(f"{self.path}: the cache {fault} while it was in use; run the same command again")
        assert self._data is not None
        row: np.void = self._data[_HEADER.size :][: len(self) * _ROW.itemsize].view(_ROW)[index]
        return self._data, row

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_data": None}  # a process that unpickles this maps the file itself

    def _open(self) -> str | None:
        """Map the file; return what is wrong with it, or None."""
        try:
            data = np.asarray(np.memmap(self.path, np.uint8, "r"))
        except (FileNotFoundError, NotADirectoryError):
            return "is missing"
        except ValueError:  # nothing to map
            return "is empty"
        except OSError as error:
            raise DataError(
                f"{self.path}: the cache cannot be read ({error}); fix that, or choose another --data.cache"
            ) from error
        if len(data) < _HEADER.size:
            return "is truncated"
        magic, fingerprint, total = _HEADER.unpack(data[: _HEADER.size].tobytes())
        if magic != _MAGIC:
            return "is of another format"
        if len(data) != total:
            return f"is truncated ({len(data)} of {total} bytes)"
        if fingerprint != self._fingerprint:
            return "is older than the images: a file has changed"
        self._data = data
        return None

    def _build_once(self) -> None:
        """Build the file, or wait until another process has."""
        part = self.path.with_suffix(".part")
        with _as_data_error(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path.with_suffix(".lock"), thread_local=False)  # freed however its holder ends
            with _exclusive(lock, self.path):
                if (fault := self._open()) is None:
                    return
                if fault != "is missing":
                    log.warning("%s %s; building it again", self.path, fault)
                try:
                    with part.open("wb") as file:
                        self._write(file)
                    part.replace(self.path)
                finally:
                    part.unlink(missing_ok=True)
                if (fault := self._open()) is not None:
                    raise DataError(f"{self.path}: the cache {fault} although it was just built")
        megabytes = self.path.stat().st_size / 1e6
        whole = sum(p.stat().st_size for p in self.path.parent.glob("*.images")) / 1e6
        log.info("%s: %d images, %.0f MB; the folder holds %.0f MB", self.path, len(self), megabytes, whole)

    def _write(self, file: BinaryIO) -> None:
        index = np.zeros(len(self), _ROW)
        file.seek(_HEADER.size + index.nbytes)
        workers = usable_cores()
        with ThreadPoolExecutor(workers) as pool, progress("caching", len(self)) as done:
            for first in range(0, len(self), 16 * workers):  # a few at a time: what is decoded waits in memory
                rows = range(first, min(first + 16 * workers, len(self)))
                for row, (image, mask, original) in zip(rows, pool.map(self._shrink, rows), strict=True):
                    index[row] = (file.tell(), image.shape[:2], original, mask is not None)
                    file.write(image.data)
                    if mask is not None:
                        file.write(mask.data)
                    done(1)
        total = file.tell()
        file.seek(0)
        file.write(_HEADER.pack(_MAGIC, self._fingerprint, total))
        file.write(index.data)
        file.flush()
        os.fsync(file.fileno())  # before it gets its name: a machine that goes down leaves no half file under it

    def _shrink(self, index: int) -> tuple[np.ndarray, np.ndarray | None, tuple[int, int]]:
        """Return image and mask at their size in the file, and the original height and width."""
        example = self.source[index]
        height, width = example.image.shape[:2]
        ratio = min(1.0, self.size / min(height, width))
        target = (max(1, round(width * ratio)), max(1, round(height * ratio)))
        image = cv2.resize(example.image, target, interpolation=cv2.INTER_AREA)
        mask = None
        if example.mask is not None:
            mask = cv2.resize(example.mask.astype(np.uint8), target, interpolation=cv2.INTER_NEAREST_EXACT)
        return image, mask, (height, width)


def _digests(source: FileDataset, size: int) -> tuple[str, bytes]:
    """Make a file name for these images at this size, and a fingerprint of their files as they are now."""
    which, state = hashlib.sha256(f"{size}".encode()), hashlib.sha256()
    for item in source.items:
        for path in filter(None, (item.path, item.mask)):
            which.update(f"{path.absolute()}\n".encode())
            try:
                found = path.stat()
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error})") from error
            state.update(f"{path.absolute()}\n{found.st_size} {found.st_mtime_ns}\n".encode())
        if item.mask is not None:  # its values may be made from the label, or from a list of classes
            meaning = None if item.label_map is None else item.label_map.meaning
            state.update(f"{item.labels}{'' if meaning is None else meaning}\n".encode())
    return which.hexdigest()[:16], state.digest()


@contextmanager
def _exclusive(lock: BaseFileLock, path: Path) -> Iterator[None]:
    """Hold the lock; wait while another process builds the cache."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("%s: another process is building this cache; waiting for it", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _as_data_error(folder: Path) -> Iterator[None]:
    """Turn errors of the operating system into a `DataError` that names the cache's folder."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder}: the cache of images cannot be written ({error}); free some space, choose another folder with "
            "--data.cache or a smaller --data.cache_size, or leave out --data.cache"
        ) from error
