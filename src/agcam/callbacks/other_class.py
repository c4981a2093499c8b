"""What the model said of the shown images that it mistook: the heatmap of that class, beside the label's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from agcam.explainers.explain import explain_recording
from agcam.explainers.explanation import Explanation
from agcam.explainers.recording import Recording
from agcam.explainers.some_images import of_images


@dataclass(frozen=True)
class Others:
    """The other class of mistaken images of a batch, explained.

    Attributes:
        classes: (B,) int64, the class; -1 where the image is not mistaken.
        place: (B,) int64, the image's row in `explanations`; -1 as above, and where it is not shown.
        explanations: by method, of the class of each shown one.
    """

    classes: Tensor
    place: Tensor
    explanations: Mapping[str, Explanation]


def explain_others(recording: Recording, classes: Tensor, shown: Tensor, methods: Iterable[str]) -> Others:
    """Explain the other class of those images that are shown, from the recording of the batch: no forward is run.

    Args:
        recording: of the batch.
        classes: see `Others`.
        shown: (n,) int64, rows of the batch that are shown.
        methods: to explain by.
    """
    wanted = torch.zeros_like(classes, dtype=torch.bool)
    wanted[shown] = True
    rows = torch.nonzero((classes >= 0) & wanted)[:, 0]
    place = torch.full_like(classes, -1)
    place[rows] = torch.arange(len(rows), device=rows.device)
    if not len(rows):
        return Others(classes, place, {})
    few, targets = of_images(recording, rows), classes[rows, None]
    return Others(classes, place, {method: explain_recording(few, targets, method) for method in methods})
