"""What the heatmaps of explained batches are worth, image by image and over a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from agcam.callbacks.drift_memory import DriftMemory
from agcam.data.batch import Batch
from agcam.data.ground_truth import Pairs, box_truth, mask_truth
from agcam.metrics.localization.localization import NAMES, Protocol, score
from agcam.metrics.localization.pointing_game import pointing_hits
from agcam.metrics.map_statistics import map_entropy, reasons
from agcam.metrics.maps import fill_boxes, place, upsample
from agcam.metrics.means import ImageMeans

GroundTruth = Literal["boxes", "masks"]
FIGURES = (*NAMES, "pointing_game", "right_for_wrong_reason", "wrong_but_looking_right", "entropy", "drift")
WITHOUT_OBJECTS = ("entropy", "drift")
"""Those that need no boxes or masks."""
_ENTROPY = FIGURES.index("entropy")


@dataclass(frozen=True)
class Objects:
    """Where the objects of P pairs are, as far as that is known for K of them.

    Attributes:
        known: (P,) bool, K times true.
        masks: (K, H, W) bool, the object's pixels; filled boxes will do.
        boxes: for each of the K (n, 4) xyxy, or None where masks are the ground truth.
        ignore: (K, H, W) bool, pixels that count nowhere, or None.
    """

    known: Tensor
    masks: Tensor
    boxes: list[Tensor] | None
    ignore: Tensor | None


def find_objects(batch: Batch, pairs: Pairs, ground_truth: GroundTruth) -> Objects | None:
    """Return the objects of the pairs by boxes or masks; None if no pair has any."""
    if ground_truth == "masks":
        masks, ignore, known = mask_truth(batch, pairs)
        return Objects(known, masks[known], None, ignore[known]) if bool(known.any()) else None
    every, known = box_truth(batch, pairs)
    boxes = [b for b in every if len(b)]
    if not boxes:
        return None
    size = (int(batch.image.shape[-2]), int(batch.image.shape[-1]))
    filled = [torch.from_numpy(fill_boxes(b.cpu(), size)) for b in boxes]
    return Objects(known, torch.stack(filled).to(pairs.image.device), boxes, None)


def has_objects(dataset: Any, ground_truth: GroundTruth) -> bool:
    """Return whether a data set has boxes or masks; true where only reading all its images would tell."""
    source = getattr(dataset, "source", None)
    items = getattr(getattr(source, "source", source), "items", None)  # a cache's source has them
    if items is None:
        return True
    return any((item.mask if ground_truth == "masks" else item.boxes) is not None for item in items)


class Scoring(nn.Module):
    """The figures of one explanation method: `FIGURES` of each image, and their means over a data set.

    Args:
        threshold: see `Localization`.
        protocol: see `Localization`.
    """

    def __init__(self, threshold: float, protocol: Protocol) -> None:
        super().__init__()
        self.threshold = threshold
        self.protocol = protocol
        self.means = ImageMeans(FIGURES)
        self.memory = DriftMemory()

    def figures(
        self, maps: Tensor, objects: Objects | None, correct: Tensor, extent: tuple[int, int] | None = None
    ) -> Tensor:
        """Compute the values (P, F) of P heatmaps, except drift; NaN where the object is unknown.

        Args:
            maps: (P, h, w) on the patch grid.
            objects: of the P pairs.
            correct: (P,) bool, whether the image is classified right.
            extent: height and width in pixels that a heatmap covers; None for the whole image.

        Returns:
            Float64 on the CPU.
        """
        found = torch.full((len(maps), len(FIGURES)), float("nan"), dtype=torch.float64)
        found[:, _ENTROPY] = map_entropy(maps)
        if objects is None:
            return found
        known = objects.known
        size = (int(objects.masks.shape[1]), int(objects.masks.shape[2]))
        large = upsample(place(maps[known], size, extent or size), size)  # once for all that needs pixels
        masks = objects.masks if objects.boxes is None else None
        overlap, counted = score(large, objects.boxes, masks, size, objects.ignore, self.threshold, self.protocol)
        overlap[~counted] = float("nan")
        hits = pointing_hits(large, objects.masks)
        flags = torch.stack([hits, *reasons(hits, correct[known])], 1).cpu()
        found[known.cpu(), :_ENTROPY] = torch.cat([overlap, flags], 1)
        return found

    def remember(self, found: Tensor, keys: Sequence[tuple[int, int]], keep: Tensor, maps: Tensor) -> None:
        """Complete figures (P, F) by the drift since the last epoch; arguments as in `DriftMemory.drift`."""
        found[:, -1] = self.memory.drift(keys, keep, maps).to(found)

    def compute(self) -> dict[str, Tensor]:
        """Return the means over all processes, without values that no image has and without a `count` of 0."""
        means: dict[str, Tensor] = self.means.compute()
        if not int(means["count"]):
            del means["count"]
        return means
