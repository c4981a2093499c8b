"""Which explained pairs of image and class of a batch are scored, and which are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from agcam.data.batch import Batch
from agcam.data.ground_truth import Pairs, labeled_targets, predicted_targets

ExplainedClasses = Literal["labelled", "predicted"]


@dataclass(frozen=True)
class ChosenPairs:
    """The pairs of a batch that are scored, shown or both.

    Attributes:
        targets: (B, T) int64, the classes to explain.
        pairs: P of them.
        counted: (P,) bool, which are scored.
        wanted: (P,) bool, which are shown.
        correct: (P,) bool, whether the model is right about each.
    """

    targets: Tensor
    pairs: Pairs
    counted: Tensor
    wanted: Tensor
    correct: Tensor

    @property
    def shown(self) -> Pairs:
        """The pairs that are shown."""
        return self.pairs.keep(self.wanted)


def choose_pairs(
    batch: Batch,
    logits: Tensor,
    probabilities: Tensor,
    mine: Tensor,
    wants: Callable[[Sequence[int], Sequence[float]], Sequence[bool]],
    explains: ExplainedClasses,
    only_correct: bool,
) -> ChosenPairs:
    """Choose the pairs of a batch.

    Args:
        batch: with labels.
        logits: (B, C).
        probabilities: (B, C) of them.
        mine: (B,) bool, the images that this process counts.
        wants: tells of positions in the data set and probabilities of classes which pairs to show.
        explains: the label, in multi-label data every present class; or the first choice of the model.
        only_correct: score only images whose first choice is right.
    """
    first = logits.argmax(1, keepdim=True)
    targets, pairs = labeled_targets(batch) if explains == "labelled" else predicted_targets(batch, first)
    pairs = pairs.keep(mine[pairs.image])
    probability = probabilities[pairs.image, pairs.object]
    single = batch.label.dim() == 1
    right = (batch.label.eq(first[:, 0]) if single else batch.label.gather(1, first)[:, 0] > 0)[pairs.image]
    asked = wants(batch.index[pairs.image].tolist(), probability.tolist())
    wanted = torch.tensor(asked, dtype=torch.bool, device=right.device)
    counted = right if only_correct else torch.ones_like(right)
    needed = counted | wanted
    correct = (right if single else probability > 0.5)[needed]
    return ChosenPairs(targets, pairs.keep(needed), counted[needed], wanted[needed], correct)
