"""Draw the pictures of a benchmark: curves over all images, and a few images with the heatmaps that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from agcam.benchmark import plots
from agcam.benchmark.measure import BenchmarkConfig, Explaining
from agcam.benchmark.per_image import curves_of_pair, values_of_pair
from agcam.benchmark.results import Results
from agcam.benchmark.run import Job
from agcam.benchmark.shard import Shard
from agcam.benchmark.softmax_vs_sigmoid import peaks
from agcam.data.batch import Batch, collate
from agcam.data.ground_truth import Pairs, box_truth, mask_truth, other_classes
from agcam.data.source import TransformedDataset
from agcam.data.transforms import Transform, denormalize
from agcam.evaluating import evaluating
from agcam.io.explained_images import ExplainedImage, OtherClass, false_alarms, write_panel

_GRID = 6
_PEAKS = 2


def illustrate(found: Results, shard: Shard, job: Job, config: BenchmarkConfig, output: Path) -> None:
    """Draw curves and heatmaps into `output/figures`, and write the panel that the report shows, `output/panel`.

    Args:
        found: the results.
        shard: all rows, with the heatmaps that are shown.
        job: model and data.
        config: what was measured.
        output: the benchmark's folder.
    """
    figures = output / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    plots.perturbation_curves(found, figures / "perturbation")
    plots.threshold_sweep(found, figures / "thresholds")
    if not len(shard.shown):
        return
    indices, image = np.unique(shard.pairs["index"][shard.shown], return_inverse=True)
    dataset = TransformedDataset(job.source, Transform(job.subject.input_config))
    batch = collate([dataset[index] for index in indices.tolist()])
    pixels = [denormalize(view, job.subject.input_config) for view in batch.image]
    _draw_grid(shard, batch, image, pixels, figures)
    if "agcam" in shard.maps:
        few = slice(_PEAKS)
        device = next(job.subject.model.parameters()).device
        targets = torch.from_numpy(shard.pairs["target"][shard.shown[_first_rows(image)[few]]])
        peaks(job.subject.model, batch.image[few].to(device), pixels[few], figures / "peaks", targets.to(device))
    fill = [round(255 * channel) for channel in job.subject.input_config.mean]
    images = _explained(shard, job, config, batch, image, pixels)
    write_panel(output / "panel", images, {"stage": "benchmark", "fill": fill})


def _first_rows(image: np.ndarray) -> np.ndarray:
    """Return the first of the shown pairs of each image, in the order of the images."""
    return np.unique(image, return_index=True)[1]


def _draw_grid(shard: Shard, batch: Batch, image: np.ndarray, pixels: list[np.ndarray], figures: Path) -> None:
    rows = _first_rows(image)
    count = min(_GRID, len(rows))
    places = [number * len(rows) // count for number in range(count)]
    maps = {label: [known[rows[place]] for place in places] for label, known in shard.maps.items()}
    titles = [Path(batch.name[place]).stem for place in places]
    plots.grid([pixels[place] for place in places], titles, maps, figures / "grid")


@dataclass(frozen=True)
class _Said:
    """What the model says of shown images: probabilities (n, C), other classes (n,), -1 for none, and their maps."""

    shares: np.ndarray
    others: list[int]
    maps: dict[str, dict[int, np.ndarray]]
    """By method and image."""


def _listen(job: Job, config: BenchmarkConfig, batch: Batch, labels: Sequence[str]) -> _Said:
    """Run the model on the shown images once more: shards have no room for all that it says of them."""
    model, device = job.subject.model, next(job.subject.model.parameters()).device
    groups = [
        range(start, min(start + config.batch_size, len(batch))) for start in range(0, len(batch), config.batch_size)
    ]
    with evaluating(model), torch.inference_mode():
        logits = torch.cat([model(batch.image[list(group)].to(device)).float() for group in groups])
    others = other_classes(batch.label, logits.argmax(1).cpu())
    maps: dict[str, dict[int, np.ndarray]] = {label: {} for label in labels}
    for group in groups:
        rows = [row for row in group if others[row] >= 0]
        if not rows:
            continue
        explaining = Explaining(model, batch.image[rows].to(device), others[rows, None].to(device))
        for method in config.methods:
            if method.label in maps:
                placed = explaining(method)[1].placed[:, 0].float().cpu().numpy()
                maps[method.label] |= dict(zip(rows, placed, strict=True))
    probabilities = logits.sigmoid() if job.subject.multilabel else logits.softmax(1)
    return _Said(probabilities.cpu().numpy(), others.tolist(), maps)


def _explained(
    shard: Shard, job: Job, config: BenchmarkConfig, batch: Batch, image: np.ndarray, pixels: list[np.ndarray]
) -> list[ExplainedImage]:
    names, present = job.subject.class_names, [classes.tolist() for classes in batch.present()]
    targets = torch.from_numpy(shard.pairs["target"][shard.shown])
    places = torch.from_numpy(image)
    pairs = Pairs(places, torch.zeros_like(places), targets)
    boxes, _ = box_truth(batch, pairs)
    masks, _, masked = mask_truth(batch, pairs)
    said, multilabel = _listen(job, config, batch, list(shard.maps)), job.subject.multilabel

    def other(place: int) -> OtherClass | None:
        if (mistaken := said.others[place]) < 0:
            return None
        maps = {label: known[place] for label, known in said.maps.items()}
        return OtherClass(names[mistaken], float(said.shares[place, mistaken]), maps)

    return [
        ExplainedImage(
            index=int(shard.pairs["index"][row]),
            name=batch.name[place],
            image=pixels[place],
            explained=names[int(targets[number])],
            truth=tuple(names[c] for c in present[place]),
            predicted=names[int(shard.pairs["predicted"][row])],
            probability=float(shard.pairs["probability"][row]),
            boxes=boxes[number].numpy(),
            mask=masks[number].numpy() if bool(masked[number]) else None,
            heatmaps={label: known[number] for label, known in shard.maps.items()},
            figures={label: values_of_pair(shard, config.metrics, label, row) for label in shard.maps},
            curves={label: curves_of_pair(shard, config.metrics, label, row) for label in shard.maps},
            other=other(place),
            shares=tuple(float(said.shares[place, c]) for c in present[place]),
            also=false_alarms(said.shares[place].tolist(), present[place], names.__getitem__) if multilabel else (),
            multilabel=multilabel,
        )
        for number, (row, place) in enumerate(zip(shard.shown.tolist(), image.tolist(), strict=True))
    ]
