"""Localization of explained batches: heatmaps against the boxes or masks of their objects."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from agcam.callbacks.ground_truth import Pairs, box_truth, mask_truth
from agcam.data.batch import Batch
from agcam.metrics.localization import Localization, Protocol, score
from agcam.metrics.maps import fill_boxes
from agcam.metrics.pointing_game import PointingGame

GroundTruth = Literal["boxes", "masks"]


class Scoring(nn.Module):
    """Localization and pointing game of one explanation method over a data set.

    Args:
        ground_truth: score against "boxes" or "masks"; pairs without are left out.
        threshold: see `Localization`.
        protocol: see `Localization`.
    """

    def __init__(self, ground_truth: GroundTruth, threshold: float, protocol: Protocol) -> None:
        super().__init__()
        self.ground_truth = ground_truth
        self.localization = Localization(threshold, protocol)
        self.pointing = PointingGame()

    def reset(self) -> None:
        """Forget what was scored."""
        self.localization.reset()
        self.pointing.reset()

    def update(self, batch: Batch, pairs: Pairs, heatmaps: Tensor) -> None:
        """Score heatmaps (B, T, h, w) for the given pairs."""
        truth = self._truth(batch, pairs)
        if truth is None:
            return
        known, boxes, masks, ignore = truth
        maps = heatmaps[pairs.image, pairs.slot][known]
        if self.ground_truth == "masks":
            self.localization.update(maps, masks=masks, ignore=ignore)
        else:
            self.localization.update(maps, boxes=boxes, image_size=(int(masks.shape[1]), int(masks.shape[2])))
        self.pointing.update(maps, masks)

    def iou(self, batch: Batch, pairs: Pairs, heatmaps: Tensor) -> Tensor:
        """IoU (P,) of each pair, NaN where its object is unknown; the metrics stay as they are."""
        found = torch.full((len(pairs.image),), float("nan"))
        truth = self._truth(batch, pairs)
        if truth is not None:
            known, boxes, masks, ignore = truth
            by_mask = self.ground_truth == "masks"
            figures, counted = score(
                heatmaps[pairs.image, pairs.slot][known],
                None if by_mask else boxes,
                masks if by_mask else None,
                (int(masks.shape[1]), int(masks.shape[2])),
                ignore,
                self.localization.threshold,
                self.localization.protocol,
            )
            found[known.cpu()] = torch.where(counted, figures[:, 1], float("nan")).float().cpu()
        return found

    def compute(self) -> dict[str, Tensor]:
        """The five figures, `pointing_game` and `count`; empty if nothing could be scored on any process."""
        figures: dict[str, Tensor] = self.localization.compute()
        pointing: Tensor = self.pointing.compute()
        return {} if int(figures["count"]) == 0 else figures | {"pointing_game": pointing}

    def _truth(self, batch: Batch, pairs: Pairs) -> tuple[Tensor, list[Tensor], Tensor, Tensor | None] | None:
        """Which pairs have an object, its boxes, its pixels, and the pixels to ignore; None if no pair has one."""
        if self.ground_truth == "masks":
            masks, ignore, known = mask_truth(batch, pairs)
            return (known, [], masks[known], ignore[known]) if bool(known.any()) else None
        boxes, known = box_truth(batch, pairs)
        boxes = [b for b in boxes if len(b)]
        if not boxes:
            return None
        size = (int(batch.image.shape[-2]), int(batch.image.shape[-1]))
        filled = [torch.from_numpy(fill_boxes(b.cpu(), size)) for b in boxes]
        return known, boxes, torch.stack(filled).to(pairs.image.device), None
