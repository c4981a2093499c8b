"""A shard: the rows of a fixed part of the data set, computed by whichever process comes to it, kept in one file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from agcam.benchmark.case import Case
from agcam.benchmark.methods import Method
from agcam.benchmark.scores import Score
from agcam.data.batch import Batch
from agcam.data.unpack import refuse_bomb
from agcam.errors import AgcamError, DataError, brief
from agcam.explainers.explain import evaluating, explain
from agcam.ground_truth import Pairs, box_truth, labelled_targets, mask_truth
from agcam.whole_file import whole_file


@dataclass(frozen=True)
class Plan:
    """What is measured of every batch.

    Attributes:
        methods: the rows of the table.
        scores: the metrics.
        against_masks: whether overlaps and pointing are scored against masks instead of boxes.
        batch_size: images a forward.
        save_heatmaps: whether to keep the heatmaps.
    """

    methods: tuple[Method, ...]
    scores: tuple[Score, ...]
    against_masks: bool
    batch_size: int
    save_heatmaps: bool = False


@dataclass
class Shard:
    """Rows of P explained pairs of I images.

    Attributes:
        images: `index` (I,) positions in the data set, `correct` (I,): is the model's first choice among the classes?
        pairs: `index`, `target`, `correct`, `probability` (P,) and `name` (P,).
        columns: by method and column, (P, K) float32; NaN in rows that do not count.
        broken: by method, (P,) bool: its heatmap held NaN or infinity.
        seconds: by method, and "" for the plain forward: seconds an image, one entry a batch.
        failed: by method, why it could not explain this model.
        heatmaps: by method, (P, h, w), where they are kept.
    """

    images: dict[str, np.ndarray] = field(default_factory=dict)
    pairs: dict[str, np.ndarray] = field(default_factory=dict)
    columns: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    broken: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: dict[str, np.ndarray] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    heatmaps: dict[str, Tensor] = field(default_factory=dict)


def measure(model: nn.Module, multilabel: bool, batch: Batch, plan: Plan) -> Shard:
    """Explain one batch by every method and score the heatmaps of every present class."""
    found = Shard()
    with evaluating(model), torch.inference_mode():
        seconds, logits = _timed(lambda: model(batch.image).float())
    found.seconds[""] = np.array([seconds / len(batch)])
    targets, pairs = labelled_targets(batch)
    case = _case(model, multilabel, batch, pairs, logits.argmax(1), plan)
    _note_images(found, batch, pairs, logits, multilabel)
    for method in plan.methods:
        options = dict(method.options)
        try:
            run = partial(explain, model, batch.image, targets, method.name, **options)
            seconds, explanation = _timed(run)
            maps = explanation.heatmaps[pairs.image, pairs.slot]
            finite = torch.isfinite(maps).flatten(1).all(1)
            kept = torch.nonzero(finite)[:, 0]
            mine = replace(case, heatmaps=maps, explain=partial(_explain, method, options)).keep(kept)
            columns = _score(mine, plan.scores) if len(kept) else {}
        except AgcamError as error:
            found.failed[method.label] = str(error)
            continue
        found.seconds[method.label] = np.array([seconds / len(batch)])
        found.broken[method.label] = ~finite.cpu().numpy()
        found.columns[method.label] = {
            name: _spread(rows.cpu().numpy(), kept.cpu().numpy(), len(maps)) for name, rows in columns.items()
        }
        if plan.save_heatmaps:
            found.heatmaps[method.label] = maps.cpu()
    return found


def join(parts: Sequence[Shard]) -> Shard:
    """The rows of all parts, in their order. A method that failed in one part is left out of all."""
    failed = {label: why for part in reversed(parts) for label, why in part.failed.items()}
    labels = [label for label in parts[0].broken if label not in failed]
    sizes = [len(part.pairs["index"]) for part in parts]
    return Shard(
        images=_join_arrays([part.images for part in parts]),
        pairs=_join_arrays([part.pairs for part in parts]),
        columns={label: _join_columns([part.columns[label] for part in parts], sizes) for label in labels},
        broken=_join_arrays([{label: part.broken[label] for label in labels} for part in parts]),
        seconds=_join_arrays([{label: part.seconds[label] for label in ["", *labels]} for part in parts]),
        failed=failed,
        heatmaps={label: torch.cat([p.heatmaps[label] for p in parts]) for label in labels if parts[0].heatmaps},
    )


def write(shard: Shard, path: Path) -> None:
    """Write a shard, its heatmaps left out; the file appears under its name only when whole."""
    flat: dict[str, Any] = {f"images|{name}": array for name, array in shard.images.items()}
    flat |= {f"pairs|{name}": array for name, array in shard.pairs.items()}
    flat |= {f"columns|{m}|{name}": a for m, columns in shard.columns.items() for name, a in columns.items()}
    flat |= {f"broken|{name}": array for name, array in shard.broken.items()}
    flat |= {f"seconds|{name}": array for name, array in shard.seconds.items()}
    flat["failed"] = np.array(json.dumps(shard.failed))
    with whole_file(path) as part, part.open("wb") as out:
        np.savez_compressed(out, **flat)


def write_heatmaps(shard: Shard, path: Path) -> None:
    """Write a shard's heatmaps as safetensors: (P, h, w) by method, with `index` and `target` (P,)."""
    rows = {name: torch.from_numpy(shard.pairs[name]) for name in ("index", "target")}
    with whole_file(path) as part:
        try:
            safetensors.torch.save_file(rows | {name: t.contiguous() for name, t in shard.heatmaps.items()}, part)
        except safetensors.SafetensorError as error:  # how it tells what the operating system says
            raise OSError(str(error)) from error


def read(path: Path) -> Shard:
    """Read what `write` wrote.

    Raises:
        DataError: if the file is not one, with what to do.
    """
    found = Shard()
    try:
        refuse_bomb(path)
        with np.load(path, allow_pickle=False) as flat:
            found.failed = json.loads(str(flat["failed"]))
            for key in flat.files:
                kind, _, rest = key.partition("|")
                if kind == "columns":
                    label, _, name = rest.rpartition("|")
                    found.columns.setdefault(label, {})[name] = flat[key]
                elif kind != "failed":
                    getattr(found, kind)[rest] = flat[key]
        for label in found.broken:  # no column where no heatmap counts
            found.columns.setdefault(label, {})
        _check(found)
    except Exception as error:  # a damaged zip raises zlib's, tokenize's and half a dozen other errors
        raise DataError(
            f"{path}: not a whole benchmark shard ({brief(error)}); delete it and run the command again"
        ) from error
    return found


def read_all(paths: Sequence[Path]) -> Shard:
    """Read and join all shards of a benchmark.

    Raises:
        DataError: as `read`; or if one has other methods or columns than the first.
    """
    parts = [read(path) for path in paths]
    widths: dict[tuple[str, str], int] = {}
    for path, part in zip(paths, parts, strict=True):
        same = {*part.broken, *part.failed} == {*parts[0].broken, *parts[0].failed}
        own = {(label, name): rows.shape[1] for label, c in part.columns.items() for name, rows in c.items()}
        if not same or any(widths.setdefault(key, width) != width for key, width in own.items()):
            raise DataError(f"{path}: other methods or columns than in {paths[0]}; delete it and run the command again")
    return join(parts)


def _check(shard: Shard) -> None:
    """Raise `ValueError` where a shard lacks what `measure` writes, or its parts are not of one length."""
    labels = set(shard.broken)
    known = {"index", "target", "correct", "probability", "name"}
    if set(shard.images) != {"index", "correct"} or set(shard.pairs) != known or set(shard.seconds) != labels | {""}:
        raise ValueError("it lacks a part, or has one too many")
    if not isinstance(shard.failed, dict) or not all(isinstance(why, str) for why in shard.failed.values()):
        raise TypeError("what failed is no text")
    shard.pairs["name"].tolist()  # raises where a character is none
    columns = [rows for label in shard.columns for rows in shard.columns[label].values()]
    flat = [*shard.images.values(), *shard.pairs.values(), *shard.broken.values(), *shard.seconds.values()]
    if any(rows.ndim != 1 for rows in flat) or any(rows.ndim != 2 for rows in columns) or set(shard.columns) - labels:
        raise ValueError("a part has a strange shape")
    count = len(shard.pairs["index"])
    if any(len(rows) != count for rows in [*shard.pairs.values(), *shard.broken.values(), *columns]):
        raise ValueError("its parts have different lengths")
    numbers = [rows for name, rows in shard.pairs.items() if name != "name"]
    if any(rows.dtype.kind not in "biuf" for rows in [*shard.images.values(), *numbers, *flat[7:], *columns]):
        raise ValueError("a part holds no numbers")


def _case(model: nn.Module, multilabel: bool, batch: Batch, pairs: Pairs, first: Tensor, plan: Plan) -> Case:
    """The batch's pairs, their heatmaps yet to come."""
    boxes, _ = box_truth(batch, pairs)
    masks, ignore, masked = mask_truth(batch, pairs)
    count = torch.bincount(pairs.image, minlength=len(batch))
    return Case(
        model=model,
        images=batch.image[pairs.image],
        heatmaps=torch.empty(0),
        targets=pairs.object,
        correct=first[pairs.image] == pairs.object,
        alone=count[pairs.image] == 1,
        boxes=boxes,
        masks=None if batch.mask is None else masks,
        ignore=None if batch.mask is None else ignore,
        masked=masked,
        against_masks=plan.against_masks,
        multilabel=multilabel,
        explain=partial(_explain, plan.methods[0], {}),
        batch_size=plan.batch_size,
    )


def _note_images(found: Shard, batch: Batch, pairs: Pairs, logits: Tensor, multilabel: bool) -> None:
    first = logits.argmax(1)
    right = [bool((classes == choice).any()) for classes, choice in zip(batch.present(), first, strict=True)]
    found.images = {"index": batch.index.cpu().numpy(), "correct": np.array(right)}
    probabilities = logits.sigmoid() if multilabel else logits.softmax(1)
    image = pairs.image
    found.pairs = {
        "index": batch.index.to(image.device)[image].cpu().numpy(),
        "target": pairs.object.cpu().numpy(),
        "correct": (first[image] == pairs.object).cpu().numpy(),
        "probability": probabilities[image, pairs.object].cpu().numpy(),
        "name": np.array([batch.name[row] for row in image.tolist()], dtype=np.str_),
    }


def _explain(method: Method, options: dict[str, Any], model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return explain(model, images, targets, method.name, **options).heatmaps[:, 0]


def _score(case: Case, scores: Iterable[Score]) -> dict[str, Tensor]:
    columns: dict[str, Tensor] = {}
    for score in scores:
        by_mask = score.needs == "masks" or (score.needs == "objects" and case.against_masks)
        if not (by_mask and case.masks is None):
            columns |= score.rows(case)
    return columns


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def _spread(rows: np.ndarray, kept: np.ndarray, count: int) -> np.ndarray:
    spread = np.full((count, rows.shape[1]), np.nan, dtype=np.float32)
    spread[kept] = rows
    return spread


def _join_arrays(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _join_columns(parts: Sequence[dict[str, np.ndarray]], sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """As `_join_arrays`; a part that lacks a column (no mask in its images, say) has NaN there."""
    widths = {name: rows.shape[1] for part in parts for name, rows in part.items()}
    return {
        name: np.concatenate(
            [
                part.get(name, np.full((size, width), np.nan, np.float32))
                for part, size in zip(parts, sizes, strict=True)
            ]
        )
        for name, width in widths.items()
    }
