"""The pictures of a benchmark: curves of the whole set, and a few images explained by every method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from agcam.benchmark import plots
from agcam.benchmark.peaks import peaks
from agcam.benchmark.results import Results
from agcam.benchmark.run import Job
from agcam.benchmark.shard import Plan, Shard
from agcam.data.batch import Batch, collate
from agcam.data.source import TransformedDataset
from agcam.data.transforms import Transform, to_pixels
from agcam.explainers.explain import explain
from agcam.ground_truth import box_truth, labelled_targets, mask_truth
from agcam.panel import Shown, write_panel

_SHOWN = 6
_PEAKS = 2
_PANEL = 24
_SHOWN_CURVES = ("lerf", "morf", "insertion", "deletion")


def illustrate(found: Results, job: Job, plan: Plan, folder: Path) -> None:
    """Draw what the results hold into `folder`: curves, sweep, a grid of images × methods, softmax against sigmoid."""
    folder.mkdir(parents=True, exist_ok=True)
    plots.perturbation_curves(found, folder / "perturbation")
    plots.threshold_sweep(found, folder / "thresholds")
    batch = _few(job, _spread(job, _SHOWN))
    pixels = [to_pixels(image, job.subject.input_config) for image in batch.image]
    working = {row.method for row in found.rows if not row.failed}
    methods = [method for method in plan.methods if method.label in working]
    targets = labelled_targets(batch)[0][:, :1]
    maps = {
        m.label: _maps(explain(job.subject.model, batch.image, targets, m.name, **m.options).heatmaps) for m in methods
    }
    plots.grid(pixels, [Path(name).stem for name in batch.name], maps, folder / "grid")
    if "agcam" in working:
        peaks(job.subject.model, batch.image[:_PEAKS], pixels[:_PEAKS], folder / "peaks", targets[:_PEAKS])


def show(shard: Shard, job: Job, plan: Plan, folder: Path) -> None:
    """Write the panel that the report shows: some images, every class of theirs, by every method that works.

    Args:
        shard: all rows; what the shown heatmaps score is taken from here.
        job: model and data.
        plan: what was measured.
        folder: of the panel.
    """
    rows = {
        key: row for row, key in enumerate(zip(*(shard.pairs[n].tolist() for n in ("index", "target")), strict=True))
    }
    places = _spread(job, _PANEL)
    shown: list[Shown] = []
    for start in range(0, len(places), plan.batch_size):
        shown += _shown(shard, job, plan, places[start : start + plan.batch_size], rows)
    fill = [round(255 * channel) for channel in job.subject.input_config.mean]
    write_panel(folder, shown, {"stage": "benchmark", "fill": fill})


def _shown(shard: Shard, job: Job, plan: Plan, places: Sequence[int], rows: dict[tuple[int, int], int]) -> list[Shown]:
    batch, model, names = _few(job, places), job.subject.model, job.subject.class_names
    targets, pairs = labelled_targets(batch)
    maps: dict[str, Tensor] = {}
    first = [-1] * len(batch)
    for method in plan.methods:
        if method.label in shard.columns:
            explanation = explain(model, batch.image, targets, method.name, **method.options)
            maps[method.label] = explanation.heatmaps[pairs.image, pairs.slot].cpu()
            first = explanation.logits.argmax(1).tolist()
    boxes, _ = box_truth(batch, pairs)
    masks, _, masked = mask_truth(batch, pairs)
    present = batch.present()
    found = []
    for number, (image, target) in enumerate(zip(pairs.image.tolist(), pairs.object.tolist(), strict=True)):
        row = rows[int(batch.index[image]), target]
        found.append(
            Shown(
                index=int(batch.index[image]),
                name=batch.name[image],
                image=to_pixels(batch.image[image], job.subject.input_config),
                explained=names[target],
                truth=tuple(names[c] for c in present[image].tolist()),
                predicted=names[first[image]],
                probability=float(shard.pairs["probability"][row]),
                boxes=boxes[number].cpu().numpy(),
                mask=masks[number].cpu().numpy() if bool(masked[number]) else None,
                heatmaps={label: values[number].numpy() for label, values in maps.items()},
                figures={label: _figures(shard, plan, label, row) for label in maps},
                curves={label: _curves(shard, plan, label, row) for label in maps},
            )
        )
    return found


def _figures(shard: Shard, plan: Plan, label: str, row: int) -> dict[str, float]:
    columns = {name: torch.from_numpy(rows[row]).double() for name, rows in shard.columns[label].items()}
    known = [figure for score in plan.scores for figure in score.figures if figure.column in columns]
    values = {figure.name: float(figure.of_mean(columns[figure.column])) for figure in known}
    return {name: value for name, value in values.items() if not np.isnan(value)}


def _curves(shard: Shard, plan: Plan, label: str, row: int) -> dict[str, list[float]]:
    columns = shard.columns[label]
    known = [c for score in plan.scores for c in score.curves if c.column in columns and c.name in _SHOWN_CURVES]
    curves = {curve.name: columns[curve.column][row, curve.part] for curve in known}
    return {name: values.tolist() for name, values in curves.items() if not np.isnan(values).any()}


def _spread(job: Job, count: int) -> list[int]:
    """Places in the job's positions, spread evenly."""
    count = min(count, len(job.positions))
    return [number * len(job.positions) // count for number in range(count)]


def _few(job: Job, places: Sequence[int]) -> Batch:
    """The images at these places of the job's positions, on the model's device."""
    dataset = TransformedDataset(job.source, Transform(job.subject.input_config))
    device = next(job.subject.model.parameters()).device
    return collate([dataset[job.positions[place]] for place in places]).to(device)


def _maps(heatmaps: Tensor) -> list[np.ndarray]:
    return list(heatmaps[:, 0].cpu().numpy())
