"""Malformed ground truth is refused with its shape or value named."""

from __future__ import annotations

import pytest
import torch

from agcam import InputError
from agcam.metrics import EnergyPointingGame, GTKnownLoc, Localization, MaxBoxAcc, PxAP, Segmentation, Top1Loc

MAPS = torch.rand(2, 4, 4)
BOXES = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])] * 2


@pytest.mark.parametrize("make", [MaxBoxAcc, GTKnownLoc, Localization])
@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([torch.zeros(1, 4)], r"each of the 2 heatmaps, found 1"),
        ([torch.zeros(1, 4), torch.zeros(3, 5)], r"boxes\[1\] must be \(n, 4\).*found \(3, 5\)"),
        ([torch.zeros(1, 4), torch.tensor([[5.0, 0, 2, 3]])], r"boxes\[1\].*left <= right.*5\.0"),
        ([torch.full((1, 4), torch.nan), torch.zeros(1, 4)], r"boxes\[0\] must be finite"),
    ],
)
def test_boxes(make: type, boxes: list[torch.Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make().update(MAPS, boxes=boxes, image_size=(8, 8))


@pytest.mark.parametrize("make", [PxAP, Segmentation, EnergyPointingGame, Localization])
@pytest.mark.parametrize(
    ("masks", "ignore", "message"),
    [
        (torch.zeros(3, 8, 8, dtype=torch.bool), None, r"2 heatmaps, found \(3, 8, 8\)"),
        (torch.zeros(2, 8, dtype=torch.bool), None, r"found \(2, 8\)"),
        (torch.full((2, 8, 8), 255), None, r"found values from 255 to 255"),
        (
            torch.zeros(2, 8, 8, dtype=torch.bool),
            torch.zeros(2, 4, 8, dtype=torch.bool),
            r"found torch.bool \(2, 4, 8\)",
        ),
        (torch.zeros(2, 8, 8, dtype=torch.bool), torch.zeros(2, 8, 8), r"ignore must be bool.*float32"),
    ],
)
def test_masks(make: type, masks: torch.Tensor, ignore: torch.Tensor | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make().update(MAPS, masks=masks, ignore=ignore)


def test_localization_wants_one_kind_of_truth() -> None:
    masks = torch.ones(2, 8, 8, dtype=torch.bool)
    with pytest.raises(InputError, match="found boxes and masks; give one of them"):
        Localization().update(MAPS, boxes=BOXES, masks=masks, image_size=(8, 8))
    with pytest.raises(InputError, match="found boxes without image_size; add image_size"):
        Localization().update(MAPS, boxes=BOXES)
    with pytest.raises(InputError, match="found ignore with boxes"):
        Localization().update(MAPS, boxes=BOXES, image_size=(8, 8), ignore=masks)
    with pytest.raises(InputError, match=r"image_size is \(8, 9\), but the masks are \(8, 8\); leave it out"):
        Localization().update(MAPS, masks=masks, image_size=(8, 9))


@pytest.mark.parametrize("correct", [torch.ones(2), torch.ones(3, dtype=torch.bool)])
def test_top1_wants_a_bool_an_image(correct: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"correct must be bool of shape \(2,\)"):
        Top1Loc().update(MAPS, BOXES, (8, 8), correct)


def test_settings_out_of_range() -> None:
    with pytest.raises(InputError, match=r"threshold must be in \[0, 1\), found 1"):
        GTKnownLoc(threshold=1)
    with pytest.raises(InputError, match=r"even number.*found 7"):
        MaxBoxAcc(thresholds=7)
