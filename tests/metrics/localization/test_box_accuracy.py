"""MaxBoxAcc, MaxBoxAccV2, GT-known and Top-1 Loc against a slow implementation that shares no code with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from agcam.metrics import GTKnownLoc, MaxBoxAcc, MaxBoxAccV2, Top1Loc
from agcam.metrics.localization.gt_known_loc import box_hits
from agcam.metrics.localization.max_box_acc import best_ious, threshold_grid
from metric_cases import SIZE, random_boxes, random_heatmaps

CASES = 100
STEPS = 20
EIGHT = np.ones((3, 3))


def slow_maps(heatmaps: Tensor) -> np.ndarray:
    up = torch.nn.Upsample(size=SIZE, mode="bilinear", align_corners=False)(heatmaps[:, None])[:, 0].numpy()
    return np.stack([(one - one.min()) / (one.max() - one.min()) for one in up])


def enclosed_area(region: np.ndarray) -> float:
    """Area of the polygon through the centres of the outermost pixels: whole and half cells of 2 × 2 centres."""
    solid = ndimage.binary_fill_holes(region).astype(int)
    corners = solid[1:, 1:] + solid[1:, :-1] + solid[:-1, 1:] + solid[:-1, :-1]
    return float((corners == 4).sum() + (corners == 3).sum() / 2)


def slow_iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def slow_best(binary: np.ndarray, boxes: Tensor, largest: bool) -> float:
    """Best IoU; with `largest`, of the region that encloses the most area, NaN where several do."""
    labels, _ = ndimage.label(binary, structure=EIGHT)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        box = [columns.start, rows.start, columns.stop, rows.stop]
        found.append((enclosed_area(labels == number), max(slow_iou(box, other) for other in boxes.tolist())))
    if largest and found:
        equals = [iou for area, iou in found if area == max(found)[0]]
        return equals[0] if len(equals) == 1 else float("nan")
    return max((iou for _, iou in found), default=0.0)


def slow_ious(heatmaps: Tensor, boxes: list[Tensor], largest: bool, steps: int = STEPS) -> np.ndarray:
    return np.array(
        [
            [slow_best(one > np.float32(step / steps), truth, largest) for step in range(steps)]
            for one, truth in zip(slow_maps(heatmaps), boxes, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def heatmaps(boxes: list[Tensor]) -> Tensor:
    """Noise on the first box of each image, so that some hit and some miss."""
    objects = torch.zeros(CASES, *SIZE)
    for one, (left, top, right, bottom) in zip(
        objects, [entry[0].round().int().tolist() for entry in boxes], strict=True
    ):
        one[top:bottom, left:right] = 1
    return torch.nn.functional.adaptive_avg_pool2d(objects, (10, 12)) + random_heatmaps(CASES, 3, (10, 12))


@pytest.fixture(scope="module")
def boxes() -> list[Tensor]:
    return random_boxes(CASES, seed=3)


@pytest.fixture(scope="module")
def slow_largest(heatmaps: Tensor, boxes: list[Tensor]) -> np.ndarray:
    """(100, STEPS), with the fast answer where several contours are the largest: either is right there."""
    slow = slow_ious(heatmaps, boxes, largest=True)
    open_cases = np.isnan(slow)
    assert open_cases.mean() < 0.02
    fast, _ = best_ious(heatmaps, boxes, SIZE, threshold_grid(STEPS), largest=True)
    return np.where(open_cases, fast.numpy(), slow)


def test_max_box_acc_agrees_with_the_slow_one(heatmaps: Tensor, boxes: list[Tensor], slow_largest: np.ndarray) -> None:
    fast, counted = best_ious(heatmaps, boxes, SIZE, threshold_grid(STEPS), largest=True)
    assert counted.all()
    np.testing.assert_allclose(fast.numpy(), slow_largest, rtol=0, atol=1e-6)
    metric = MaxBoxAcc(thresholds=STEPS)
    metric.update(heatmaps, boxes, SIZE)
    accuracy = (slow_largest >= 0.5).mean(0)
    found = metric.compute()
    assert 0 < accuracy.max() < 1
    assert float(found["max_box_acc"]) == pytest.approx(accuracy.max())
    assert float(found["threshold"]) == pytest.approx(accuracy.argmax() / STEPS)
    assert float(found["box_acc"]) == pytest.approx(accuracy[STEPS // 2])
    assert int(found["count"]) == CASES


def test_max_box_acc_v2_agrees_with_the_slow_one(heatmaps: Tensor, boxes: list[Tensor]) -> None:
    slow = slow_ious(heatmaps, boxes, largest=False)
    metric = MaxBoxAccV2(thresholds=STEPS)
    metric.update(heatmaps, boxes, SIZE)
    accuracy = np.stack([(slow >= iou).mean(0) for iou in (0.3, 0.5, 0.7)])
    found = metric.compute()
    assert float(found["max_box_acc_v2"]) == pytest.approx(accuracy.max(1).mean())
    assert found["max_box_acc"].tolist() == pytest.approx(accuracy.max(1).tolist())
    assert found["threshold"].tolist() == pytest.approx((accuracy.argmax(1) / STEPS).tolist())
    assert float(found["box_acc_v2"]) == pytest.approx(accuracy[:, STEPS // 2].mean())


def test_fixed_threshold_accuracies_agree_with_the_slow_one(
    heatmaps: Tensor, boxes: list[Tensor], slow_largest: np.ndarray
) -> None:
    hits = slow_largest[:, STEPS // 2] >= 0.5
    known, top1 = GTKnownLoc(), Top1Loc()
    correct = torch.arange(CASES) % 2 == 0
    known.update(heatmaps, boxes, SIZE)
    top1.update(heatmaps, boxes, SIZE, correct)
    assert 0 < hits.mean() < 1
    assert float(known.compute()["gt_known_loc"]) == pytest.approx(hits.mean())
    assert float(top1.compute()["top1_loc"]) == pytest.approx((hits & correct.numpy()).mean())
    assert box_hits(heatmaps, boxes, SIZE)[0].tolist() == hits.tolist()


def test_largest_contour_only_or_any() -> None:
    # a big square at the left, a small one at the right that is the object
    heatmap = torch.zeros(1, 10, 20)
    heatmap[0, 1:7, 1:7] = 1
    heatmap[0, 2:5, 14:17] = 0.9
    boxes = [torch.tensor([[14.0, 2.0, 17.0, 5.0]])]
    first, second = MaxBoxAcc(10), MaxBoxAccV2(10)
    first.update(heatmap, boxes, (10, 20))
    second.update(heatmap, boxes, (10, 20))
    assert float(first.compute()["max_box_acc"]) == 0
    assert float(second.compute()["max_box_acc_v2"]) == 1


def test_v2_thresholds_are_chosen_for_each_iou() -> None:
    # above 0.5 the box is 4 of the object's 10 columns (IoU .4), below it 6 of them (IoU .6)
    heatmap = torch.zeros(1, 4, 20)
    heatmap[0, :, 0:6] = 0.5
    heatmap[0, :, 0:4] = 1
    metric = MaxBoxAccV2(10)
    metric.update(heatmap, [torch.tensor([[0.0, 0.0, 10.0, 4.0]])], (4, 20))
    found = metric.compute()
    assert found["max_box_acc"].tolist() == [1, 1, 0]
    assert float(found["max_box_acc_v2"]) == pytest.approx(2 / 3)
    assert float(found["box_acc_v2"]) == pytest.approx(1 / 3)


def test_an_iou_of_exactly_the_bound_is_a_hit() -> None:
    heatmap = torch.zeros(1, 4, 20)
    heatmap[0, :, :5] = 1  # 5 of the object's 10 columns
    boxes = [torch.tensor([[0.0, 0.0, 10.0, 4.0]])]
    known, best, second = GTKnownLoc(), MaxBoxAcc(10), MaxBoxAccV2(10)
    for metric in (known, best, second):
        metric.update(heatmap, boxes, (4, 20))
    assert float(known.compute()["gt_known_loc"]) == 1
    assert float(best.compute()["max_box_acc"]) == 1
    assert second.compute()["max_box_acc"].tolist() == [1, 1, 0]


def test_a_region_in_a_hole_counts_for_v2() -> None:
    heatmap = torch.zeros(1, 11, 11)
    heatmap[0, 1:10, 1:10] = 1
    heatmap[0, 2:9, 2:9] = 0
    heatmap[0, 4:7, 4:7] = 1
    metric = MaxBoxAccV2(10)
    metric.update(heatmap, [torch.tensor([[4.0, 4.0, 7.0, 7.0]])], (11, 11))
    assert float(metric.compute()["box_acc_v2"]) == 1


def test_a_constant_map_misses_and_an_image_without_boxes_is_left_out() -> None:
    boxes = [torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.zeros(0, 4)]
    for metric, name in (
        (MaxBoxAcc(), "max_box_acc"),
        (MaxBoxAccV2(), "max_box_acc_v2"),
        (GTKnownLoc(), "gt_known_loc"),
    ):
        metric.update(torch.ones(2, 4, 4), boxes, (8, 8))
        found = metric.compute()
        assert float(found[name]) == 0
        assert int(found["count"]) == 1


def test_right_class_without_the_object_or_the_object_without_the_class_is_a_top1_miss() -> None:
    heatmap = torch.zeros(1, 8, 8)
    heatmap[0, :4, :4] = 1
    there, elsewhere = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[5.0, 5, 8, 8]])
    metric = Top1Loc()
    metric.update(
        heatmap.expand(4, 8, 8), [there, there, elsewhere, elsewhere], (8, 8), torch.tensor([True, False, True, False])
    )
    assert float(metric.compute()["top1_loc"]) == 0.25
