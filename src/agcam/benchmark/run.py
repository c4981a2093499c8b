"""Compute the shards of a data set, in one process or several; a run that was stopped resumes."""

from __future__ import annotations

import hashlib
import json
import multiprocessing as mp
import pickle
import queue
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from agcam.benchmark import shard as shards
from agcam.benchmark.measure import BenchmarkConfig, measure
from agcam.console.interrupt import undisturbed
from agcam.console.one_line import describe, show_traceback
from agcam.data.batch import collate
from agcam.data.source import ExampleDataset, TransformedDataset
from agcam.data.transforms import Transform
from agcam.errors import AgcamError, InputError, UnexpectedError, brief
from agcam.io.atomic import write_whole
from agcam.io.text import quoted
from agcam.training.fingerprint import hash_weights
from agcam.training.loaded import LoadedModel

SHARD = 64
"""Images in a shard: the most that each process loses when a run is killed."""
SHOWN = 24
"""Images whose heatmaps are kept with their rows, for the figures and the report."""
MANIFEST = "benchmark.json"


@dataclass(frozen=True)
class Job:
    """A model and data to compare methods on.

    Attributes:
        subject: the model and what it needs.
        source: the images and their annotations.
        positions: the images to explain, ascending.
        num_workers: loader processes of each process.
        about: a description of both, for the results.
    """

    subject: LoadedModel
    source: ExampleDataset
    positions: Sequence[int]
    num_workers: int = 0
    about: dict[str, Any] = field(default_factory=dict)


def run(
    job: Job,
    open_job: Callable[[], Job],
    config: BenchmarkConfig,
    output: Path,
    devices: Sequence[str],
    done: Callable[[int], None],
) -> None:
    """Compute all shards that `output` does not hold yet.

    A shard is the same images in the same batches whatever process computes it, so any number of processes, and any
    number of interruptions, give the same rows.

    Args:
        job: model and data.
        open_job: opens the same in another process; picklable, called only where there are several devices.
        config: what is measured.
        output: folder that this process holds (`held`); shards go to `shards/` below it.
        devices: one for each process.
        done: called with a number of images whenever that many are finished; first with those finished before.

    Raises:
        InputError: if `output` holds another benchmark.
        AgcamError: if a process fails; the message names it.
    """
    _check_manifest(output, _fingerprint(job, config))
    finished = [number for number in range(count_shards(job)) if shard_path(output, number).is_file()]
    done(sum(len(_positions(job, number)) for number in finished))
    if len(finished) < count_shards(job):
        if len(devices) == 1:
            _work(job, config, output, 0, 1, devices[0], done)
        else:
            _work_in_processes(open_job, config, output, devices, done)


def shard_path(output: Path, number: int) -> Path:
    """Return the path of a shard."""
    return output / "shards" / f"{number:05d}.npz"


def count_shards(job: Job) -> int:
    """Return the number of shards of the whole job."""
    return -(-len(job.positions) // SHARD)


def shown_images(job: Job) -> list[int]:
    """Return the positions in the data set of the images that are shown, spread evenly."""
    count = min(SHOWN, len(job.positions))
    return [job.positions[number * len(job.positions) // count] for number in range(count)]


def _positions(job: Job, number: int) -> Sequence[int]:
    return job.positions[number * SHARD : (number + 1) * SHARD]


def _work(
    job: Job, config: BenchmarkConfig, output: Path, rank: int, world: int, device: str, done: Callable[[int], None]
) -> None:
    """Compute every `world`-th shard, from the `rank`-th on, that does not exist yet."""
    pending = [n for n in range(rank, count_shards(job), world) if not shard_path(output, n).is_file()]
    groups = [
        list(_positions(job, number)[start : start + config.batch_size])
        for number in pending
        for start in range(0, len(_positions(job, number)), config.batch_size)
    ]
    dataset = TransformedDataset(job.source, Transform(job.subject.input_config))
    kept = frozenset(shown_images(job))
    batches = iter(DataLoader(dataset, batch_sampler=groups, collate_fn=collate, num_workers=job.num_workers))
    model = job.subject.model.to(device).eval()
    for number in pending:
        parts = []
        for _ in range(0, len(_positions(job, number)), config.batch_size):
            batch = next(batches).to(device)
            parts.append(measure(model, job.subject.multilabel, batch, config, kept))
            done(len(batch))
        shard = shards.join_shards(parts)
        if config.save_heatmaps:
            shards.write_heatmaps(shard, output / "heatmaps" / f"{number:05d}.safetensors")
        shards.write(shard, shard_path(output, number))


def _work_in_processes(
    open_job: Callable[[], Job],
    config: BenchmarkConfig,
    output: Path,
    devices: Sequence[str],
    done: Callable[[int], None],
) -> None:
    """Work in one process for each device; stop all when one fails."""
    context = mp.get_context("spawn")
    told: Any = context.Queue()
    processes = [
        context.Process(target=_worker, args=(open_job, config, output, rank, devices, told), daemon=False)
        for rank in range(len(devices))
    ]
    try:
        with undisturbed():
            for process in processes:
                _start(process)
        while any(process.is_alive() for process in processes) or not told.empty():
            with suppress(queue.Empty):
                said = told.get(timeout=0.2)
                if isinstance(said, Exception):
                    raise said
                done(said)
            for rank, process in enumerate(processes):
                if process.exitcode not in (None, 0) and told.empty():
                    raise AgcamError(
                        f"process {rank} of {len(devices)} stopped with exit status {process.exitcode}; finished "
                        "shards are kept, run the same command again to resume"
                    )
    finally:
        started = [process for process in processes if process.pid is not None]
        for process in started:
            process.terminate()
        for process in started:
            process.join()


def _start(process: Any) -> None:
    try:
        process.start()
    except (
        AttributeError,
        TypeError,
        pickle.PicklingError,
    ) as error:  # what pickle raises for lambdas differs by version
        raise InputError(
            f"a method or metric cannot be sent to other processes ({brief(error)}); define its functions at the top "
            "of a module, or leave --devices at 1"
        ) from error


def _worker(
    open_job: Callable[[], Job], config: BenchmarkConfig, output: Path, rank: int, devices: Sequence[str], told: Any
) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // len(devices)))
    parent = mp.parent_process()

    def done(count: int) -> None:
        if parent is not None and not parent.is_alive():
            raise SystemExit(1)  # the parent was killed and its lock released: another command may be writing here
        told.put(count)

    try:
        _work(open_job(), config, output, rank, len(devices), devices[rank], done)
    except Exception as error:
        show_traceback(error)
        line, status = describe(error)
        kind = AgcamError if status == 2 else UnexpectedError
        told.put(kind(f"process {rank} of {len(devices)}: {line}"))
        raise SystemExit(1) from error


def _fingerprint(job: Job, config: BenchmarkConfig) -> dict[str, Any]:
    """Return everything that the rows depend on."""
    plain = {name: value for name, value in vars(job.source).items() if isinstance(value, int | float | str)}
    data = hashlib.sha256(repr([job.source.class_names, sorted(plain.items()), list(job.positions)]).encode())
    for item in getattr(job.source, "items", ()):
        known = None if item.boxes is None else (item.boxes.tolist(), item.box_labels.tolist())
        data.update(repr([item.name, item.labels, known, item.mask is not None, item.state]).encode())
    return {
        "schema": shards.SCHEMA,
        "methods": [method.label for method in config.methods],
        "metrics": [spec.name for spec in config.metrics],
        "ground_truth": "masks" if config.against_masks else "boxes",
        "batch_size": config.batch_size,
        "save_heatmaps": config.save_heatmaps,
        "perturbed_precision": config.perturbed_precision,
        "images": len(job.positions),
        "shard": SHARD,
        "input": job.subject.input_config.to_dict(),
        "model": hash_weights(job.subject.model),
        "data": data.hexdigest(),
    }


def _check_manifest(output: Path, wanted: dict[str, Any]) -> None:
    """Raise `InputError` if `output` holds another benchmark; if it holds none, write the manifest."""
    path = output / MANIFEST
    if path.is_file():
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError(
                f"{path}: not readable ({brief(error)}); choose another --output or delete this one"
            ) from error
        if found.get("schema") != wanted.get("schema"):
            raise InputError(
                f"{output} holds a benchmark of schema {quoted(repr(found.get('schema', 1)))}, this version writes "
                f"{wanted.get('schema')}; choose another --output or delete this one"
            )
        other = [name for name, value in wanted.items() if found.get(name) != value]
        if other:
            raise InputError(
                f"{output} holds a benchmark with other {', '.join(other)}; repeat that command to finish it, or "
                "choose another --output"
            )
        return
    if (output / "shards").is_dir():
        raise InputError(f"{output} holds shards but no {MANIFEST}; choose another --output or delete this one")
    write_whole(path, f"{json.dumps(wanted, indent=2)}\n".encode())
