"""Write what an audit found, look by look, and the examples that the report shows."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from agcam.audit.examine import Examined
from agcam.audit.findings import Audit
from agcam.audit.looks import MISSED, RIGHT, WRONG, Looks
from agcam.data.batch import Batch, collate
from agcam.data.ground_truth import Pairs, box_truth, mask_truth
from agcam.data.source import ExampleDataset, TransformedDataset
from agcam.data.transforms import Transform, denormalize
from agcam.io.atomic import whole_file
from agcam.io.explained_images import ExplainedImage, write_panel
from agcam.training.loaded import LoadedModel

_OUTCOMES = {RIGHT: "right", MISSED: "missed", WRONG: "wrong"}
REASONS = 12
"""So many of those that are right for the wrong reason are shown."""


def write_looks(looks: Looks, examined: Examined, class_names: Sequence[str], path: Path) -> None:
    """Write `looks.csv`, a line for each look; what is not known is empty."""
    outside, lost = looks.outside, looks.lost
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as out:
        writer = csv.writer(out)
        measured = ("probability", "outside", "pointing", "lost")
        writer.writerow(["row", "index", "name", "class", "outcome", "decides", "where", "what", *measured])
        for row in range(len(looks)):
            facts = [row, int(looks.index[row]), looks.name[row], class_names[int(looks.target[row])]]
            groups = ["" if number < 0 else int(number) for number in (examined.where[row], examined.what[row])]
            values = [float(each[row]) for each in (looks.probability, outside, looks.hit, lost)]
            cells = ["" if math.isnan(value) else f"{value:.7g}" for value in values]
            writer.writerow([*facts, _OUTCOMES[int(looks.outcome[row])], bool(looks.decides[row]), *groups, *cells])


def shown_rows(audit: Audit) -> list[int]:
    """Return the rows of the looks that the report shows: examples of each group, and the first wrong reasons."""
    rows = [row for group in audit.groups for row in group.examples]
    return list(dict.fromkeys([*rows, *(reason.row for reason in audit.wrong_reasons[:REASONS])]))


def write_examples(looks: Looks, audit: Audit, subject: LoadedModel, source: ExampleDataset, folder: Path) -> None:
    """Write a panel of the looks that the report shows, in the order of `shown_rows`."""
    dataset = TransformedDataset(source, Transform(subject.input_config))
    shown = []
    for row in shown_rows(audit):
        batch = collate([dataset[int(looks.index[row])]])
        shown.append(_explained(looks, row, batch, subject))
    write_panel(folder, shown, {"stage": "audit", "fill": audit.about.get("fill")})


def _explained(looks: Looks, row: int, batch: Batch, subject: LoadedModel) -> ExplainedImage:
    names, target, other = subject.class_names, int(looks.target[row]), int(looks.other[row])
    missed, wrong = int(looks.outcome[row]) == MISSED, int(looks.outcome[row]) == WRONG
    there = other if wrong and not subject.multilabel else target
    pair = Pairs(torch.tensor([0]), torch.tensor([0]), torch.tensor([there]))
    (boxes,), _ = box_truth(batch, pair)
    masks, _, masked = mask_truth(batch, pair)
    said = other if missed and not subject.multilabel else target
    return ExplainedImage(
        index=int(looks.index[row]),
        name=str(looks.name[row]),
        image=denormalize(batch.image[0], subject.input_config),
        explained=names[target],
        truth=tuple(names[label] for label in batch.present()[0].tolist()),
        predicted=names[said],
        probability=float(looks.probability[row]),
        boxes=boxes.numpy(),
        mask=masks[0].numpy() if bool(masked[0]) else None,
        heatmaps={"agcam": looks.heat[row]},
    )
