"""Mean average precision of a multi-label classifier: are the images of a class ranked above the others?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from agcam.metrics.classification.average_precision import average_precision

_AT_ONCE = 2**22


class MeanAveragePrecision(Metric):
    """Mean over classes, in [0, 1], of the average precision of ranking all images by the class's logit.

    Classes that no image shows have no average precision: they are excluded, and `absent` names them after `compute`.
    NaN where no class is present, or a logit is NaN.

    Logits are kept and ranked together at the end. They are never turned into probabilities: a sigmoid in float32 is
    1.0 for every logit above 17, which would make ties of what the model ranks.

    Examples:
        >>> metric = MeanAveragePrecision()
        >>> metric.update(logits, multi_hot)
        >>> metric.compute()

    Attributes:
        absent: indices of the classes that no image of any process showed when the mean was computed last.
    """

    full_state_update = False
    logits: list[Tensor]
    truth: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.absent: tuple[int, ...] = ()
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("truth", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Add a batch: logits (B, C), label (B, C) multi-hot."""
        self.logits.append(logits.detach())
        self.truth.append(label > 0)

    def compute(self) -> Tensor:
        """Return the mean over the classes that are present."""
        scores, truth = dim_zero_cat(self.logits).T, dim_zero_cat(self.truth).T
        present = truth.any(1)
        self.absent = tuple(torch.nonzero(~present)[:, 0].tolist())
        scores, truth = scores[present], truth[present]
        if not len(scores) or bool(scores.isnan().any()):
            return torch.tensor(torch.nan, device=self.device)
        step = max(1, _AT_ONCE // scores.shape[1])
        rows = [slice(start, start + step) for start in range(0, len(scores), step)]
        return torch.cat([average_precision(scores[part], truth[part]) for part in rows]).mean()
