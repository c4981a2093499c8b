"""Explain images on a Ray cluster; the extra `ray`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data

from agcam.benchmark.methods import parse_method
from agcam.bulk.listed_rows import listed_rows, shards_of
from agcam.bulk.manifest import ShardFolder
from agcam.bulk.processes import Process
from agcam.bulk.provenance import about_call
from agcam.bulk.reading import ImageReader, ReadImage, Unread
from agcam.bulk.run import Listing, Loading, Totals, explain_read, explain_shards
from agcam.bulk.shard_file import ShardRows, to_table
from agcam.data.photographs import PhotographMaker
from agcam.errors import AgcamError, DataError, InputError
from agcam.explainers.lean_forward import Precision
from agcam.io.addresses import Address
from agcam.training.explain_batch import Request, find_classes
from agcam.training.loaded import LoadedModel, load_trained

_NO_LIMIT = 1 << 62


def explain_dataset(
    dataset: ray.data.Dataset,
    checkpoint: str | Path,
    *,
    column: str = "path",
    method: str = "agcam",
    top: int = 3,
    targets: Sequence[str] = (),
    precision: Precision = "fp32",
    batch_size: int = 16,
    actors: int = 1,
    gpus: float = 0,
    workers: int = 1,
) -> ray.data.Dataset:
    """Explain the images of a Ray data set by a pool of actors, each of which loads the model once.

    Args:
        dataset: a row an image.
        checkpoint: that `agcam fit` wrote, or a folder that `agcam export` wrote; every node has to see it.
        column: holds the images: paths or addresses, the bytes of files, or arrays (H, W, 3) uint8.
        method: of `agcam.methods()`, with options as "NAME:option=value".
        top: how many of the most probable classes to explain.
        targets: names of the classes to explain instead.
        precision: of the forward.
        batch_size: images in a batch.
        actors: how many.
        gpus: of each actor.
        workers: threads of each actor that read.

    Returns:
        The data set, lazy as all of Ray's, with the columns of `agcam images --format parquet` and `shape` (K, h, w)
        of the maps in place of `column`, unless that holds paths. An image that fails has an `error`.
    """
    return dataset.map_batches(
        _ImageExplainer,
        fn_constructor_args=(str(checkpoint), column, method, top, tuple(targets), precision, workers),
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_gpus=gpus,
    )


class _ImageExplainer:
    """An actor of `explain_dataset`."""

    def __init__(
        self,
        checkpoint: str,
        column: str,
        method: str,
        top: int,
        targets: Sequence[str],
        precision: Precision,
        workers: int,
    ) -> None:
        self._subject, self._column = _on_device(load_trained(Path(checkpoint))), column
        chosen = tuple(find_classes(targets, self._subject.class_names))
        picked = parse_method(method)
        self._request = Request(picked.name, picked.options, top, chosen, precision)
        self._reader = ImageReader(PhotographMaker(self._subject.input_config))
        self._pool = ThreadPoolExecutor(workers)

    def __call__(self, table: pa.Table) -> pa.Table:
        if self._column not in table.column_names:
            raise InputError(f"the data set has no column {self._column!r}; it has {', '.join(table.column_names)}")
        given = table.column(self._column)
        rows = ShardRows()
        explain_read(self._subject, self._request, list(self._pool.map(self._read, _values(given))), rows)
        found = to_table(rows).drop_columns(["name"])
        kept = table if _is_text(given.type) else table.drop_columns([self._column])
        for name in found.column_names:
            kept = kept.append_column(name, found.column(name))
        shape = pa.array([[*rows.shape]] * len(kept), pa.list_(pa.int32()))
        return kept.append_column("shape", shape)

    def _read(self, value: Any) -> ReadImage:
        if isinstance(value, np.ndarray):
            if value.ndim != 3 or value.shape[2] != 3 or value.dtype != np.uint8:
                return ReadImage("", 0, error=f"found {value.dtype} {value.shape}, expected uint8 (H, W, 3)")
            return ReadImage("", 0, self._reader.make(Path("image"), np.ascontiguousarray(value)))
        if isinstance(value, bytes):
            return self._reader(Unread("", Address("image"), 0, value))
        return self._reader(Unread("", Address("" if value is None else value), 0))


def explain_shards_on_cluster(
    load: Callable[[], LoadedModel],
    request: Request,
    folder: ShardFolder,
    listing: Listing,
    weights: str,
    loading: Loading,
    done: Callable[[int], None],
    device: str | None = None,
) -> Totals:
    """Do what `explain_shards` does on the cluster that Ray is connected to; each task is one shard.

    A task that is run again finds what is done, so that every image has one row, whatever is killed.

    Args:
        load: opens the model, on any node.
        request: what to explain.
        folder: on a disk that every node sees.
        listing: yields all shards; runs on one of the nodes.
        weights: where they come from.
        loading: how images are read.
        done: called with the number of images of each shard.
        device: that was asked for; None takes a GPU for each actor if the cluster has one.

    Raises:
        AgcamError: as `explain_shards`.
    """
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    gpus = 0 if device == "cpu" else int(resources.get("GPU", 0))
    actors = gpus or max(1, int(resources.get("CPU", 1)))
    shards = (
        ray.data.from_items([{"start": 0}])
        .map_batches(partial(listed_rows, listing), num_cpus=0, batch_size=None)
        .repartition(target_num_rows_per_block=1)  # a task is a block
        .map_batches(
            _ShardExplainer,
            fn_constructor_args=(load, request, folder.folder, folder.settings, weights, loading),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors),  # the steps before need a core, too
            num_gpus=1 if gpus else 0,
        )
    )
    totals = Totals()
    try:
        for row in shards.iter_rows():
            totals.listed += 1
            totals.images += int(row["images"])
            totals.errors += int(row["errors"])
            done(int(row["images"]))
            if totals.errors > loading.max_errors:
                raise DataError(
                    f"{totals.errors} images failed, more than --max-errors {loading.max_errors}; the column `error` "
                    "of finished shards has them; look at the input, or allow more"
                )
    except ray.exceptions.RayError as error:
        raise _as_ours(error) from error
    return totals


class _ShardExplainer:
    """An actor of `explain_shards_on_cluster`."""

    def __init__(
        self,
        load: Callable[[], LoadedModel],
        request: Request,
        folder: Path,
        settings: dict[str, Any],
        weights: str,
        loading: Loading,
    ) -> None:
        self._subject, self._request = load(), request
        self._about = about_call(self._subject, weights)
        self._folder = ShardFolder(folder, settings, self._about, self._subject.class_names)
        self._loading = replace(loading, max_errors=_NO_LIMIT)  # all of them together are counted elsewhere

    def __call__(self, batch: pa.Table) -> pa.Table:
        (shard,) = shards_of(batch)
        parts = (self._subject, self._request, self._folder, lambda left_out: iter([shard]), self._about, self._loading)
        totals = explain_shards(*parts, Process())
        return pa.table({"images": [totals.images], "errors": [totals.errors]})


def _on_device(subject: LoadedModel) -> LoadedModel:
    if ray.get_gpu_ids():
        subject.to("cuda")
    return subject


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Return texts and bytes as they are, images as arrays."""
    values = column.to_pylist()
    return [value if value is None or isinstance(value, str | bytes) else np.asarray(value) for value in values]


def _as_ours(error: BaseException) -> BaseException:
    """Return our own error that a worker raised; else Ray's."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, AgcamError):
        found = getattr(found, "cause", None) or found.__cause__
    return found or error
