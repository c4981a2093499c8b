"""Values of a benchmark against agcam's own torchmetrics, on the same images and heatmaps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_benchmarks import Gaps, measure, read_heatmaps, shapes_model, whole_batch
from torch import Tensor, nn

from agcam import InputError, explain
from agcam.benchmark import run
from agcam.benchmark.results import Results
from agcam.benchmark.shard import Shard
from agcam.data.batch import IGNORE, Batch, Example
from agcam.data.shapes import ShapesDataset
from agcam.metrics import (
    ABPC,
    ROAD,
    EnergyPointingGame,
    GTKnownLoc,
    InsertionDeletion,
    Localization,
    MaxBoxAcc,
    MaxBoxAccV2,
    ParameterRandomization,
    PointingGame,
    PositiveNegative,
    PxAP,
    Segmentation,
    Top1Loc,
    bootstrap_of_mean,
)
from agcam.metrics.faithfulness.abpc import abpc_curves
from agcam.metrics.registry import default_metrics, metric_specs, parse_metrics

SIZE = (32, 32)
METHODS = ["agcam", "random", "center"]
OBJECTS = ["localization", "leem2024", "pxap", "segmentation", "pointing_game", "energy_pointing_game"]
Figures = dict[str, tuple[float, int]]
Several = tuple[Results, Shard, ShapesDataset, Tensor]


class Bare(ShapesDataset):
    """Shapes that nobody has annotated."""

    def __getitem__(self, index: int) -> Example:
        return replace(super().__getitem__(index), boxes=None, box_labels=None, mask=None)


@pytest.fixture(scope="module", autouse=True)
def _small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SHARD", 8)
        yield


def figures_of(results: Results, method: str) -> Figures:
    (row,) = [row for row in results.rows if row.method == method]
    return {name: (value.value, value.count) for name, value in row.values.items()}


def named(found: dict[str, Tensor], *names: str, prefix: str = "") -> Figures:
    """A metric's figures under the benchmark's names, each with the metric's own count."""
    count = int(found["count"])
    return {prefix + name: (float(found[name]), count) for name in names}


def boxes_of(batch: Batch, image: int, label: int) -> Tensor:
    boxes, labels = batch.boxes[image], batch.box_labels[image]
    return torch.zeros(0, 4) if boxes is None or labels is None else boxes[labels == label]


def filled(boxes: list[Tensor]) -> Tensor:
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    for mask, entry in zip(masks, boxes, strict=True):
        for left, top, right, bottom in entry.round().long().tolist():
            mask[top:bottom, left:right] = True
    return masks


def by_objects(model: nn.Module, batch: Batch, maps: Tensor, against_masks: bool = False) -> Figures:
    """What the metrics say of overlap, boxes, pointing and masks, over the images whose object is known."""
    with torch.no_grad():
        correct = model(batch.image).argmax(1) == batch.label
    masks, ignore = batch.mask == batch.label[:, None, None] + 1, batch.mask == IGNORE
    boxes = [boxes_of(batch, image, int(label)) for image, label in enumerate(batch.label)]
    known = torch.tensor([len(entry) > 0 for entry in boxes])
    boxes = [entry for entry in boxes if len(entry)]
    maps, masks, ignore, correct = maps[known], masks[known], ignore[known], correct[known]

    overlaps = []
    for protocol, rows in (("corrected", torch.ones_like(correct)), ("leem2024", correct)):
        metric = Localization(protocol=protocol)
        if against_masks:
            metric.update(maps[rows], masks=masks[rows], ignore=ignore[rows])
        else:
            metric.update(maps[rows], [b for b, row in zip(boxes, rows, strict=True) if row], image_size=SIZE)
        overlaps.append(metric.compute())
    names = ("pixel_accuracy", "iou", "dice", "precision", "recall")
    found = named(overlaps[0], *names, prefix="localization/") | named(overlaps[1], *names, prefix="leem2024/")

    for metric, *names in (
        (MaxBoxAcc(), "max_box_acc"),
        (MaxBoxAccV2(), "max_box_acc_v2", "box_acc_v2"),
        (GTKnownLoc(), "gt_known_loc"),
    ):
        metric.update(maps, boxes, SIZE)
        found |= named(metric.compute(), *names)
    top1 = Top1Loc()
    top1.update(maps, boxes, SIZE, correct)
    pxap, segmentation = PxAP(thresholds=100), Segmentation()
    pxap.update(maps, masks, ignore)
    segmentation.update(maps, masks, ignore)
    found |= named(top1.compute(), "top1_loc") | named(pxap.compute(), "pxap")
    found |= named(segmentation.compute(), "pixel_accuracy", "miou", "map", "foreground_ap", prefix="segmentation/")

    pointing, energy = PointingGame(), EnergyPointingGame()
    pointing.update(maps, masks if against_masks else filled(boxes))
    energy.update(maps, masks if against_masks else filled(boxes), ignore if against_masks else None)
    found["pointing_game"] = (float(pointing.compute()), len(maps))
    return found | named(energy.compute(), "energy_pointing_game")


def by_model(model: nn.Module, batch: Batch, maps: Tensor) -> Figures:
    """What the metrics say of faithfulness, over all images."""
    found: Figures = {}
    for metric, names in (
        (ABPC(model), ("abpc", "lerf_auc", "morf_auc")),
        (InsertionDeletion(model), ("insertion", "deletion")),
        (PositiveNegative(model), ("positive", "negative")),
    ):
        metric.update(batch.image, maps, batch.label)
        found |= named(metric.compute(), *names)
    return found


def close(found: Figures, expected: Figures) -> None:
    assert found.keys() == expected.keys()
    for name, (value, count) in expected.items():
        assert found[name] == (pytest.approx(value, abs=1e-6), count), name


def test_figures_are_those_of_the_metrics(tmp_path: Path) -> None:
    source = Gaps(18, 32, "val")
    results, _ = measure(tmp_path, source, METHODS, default_metrics())
    model, batch = shapes_model(), whole_batch(source)
    assert [row.method for row in results.rows] == METHODS
    for method in METHODS:
        maps = read_heatmaps(tmp_path, method)
        expected = by_objects(model, batch, maps) | by_model(model, batch, maps)
        assert 2 < expected["leem2024/iou"][1] < 10
        assert (expected["localization/iou"][1], expected["abpc"][1]) == (17, 18)
        close(figures_of(results, method), expected)
    assert set(results.values) == set(expected)
    assert results.absent == {}


def test_figures_against_masks_are_those_of_the_metrics(tmp_path: Path) -> None:
    source = Gaps(18, 32, "val")
    results, _ = measure(tmp_path, source, METHODS, OBJECTS, against_masks=True)
    for method in METHODS:
        found = by_objects(shapes_model(), whole_batch(source), read_heatmaps(tmp_path, method), against_masks=True)
        close(figures_of(results, method), {name: found[name] for name in results.values})
    assert {name.split("/")[0] for name in results.values} == set(OBJECTS)


def test_curves_are_those_of_the_metrics(tmp_path: Path) -> None:
    source = ShapesDataset(12, 32, "val")
    results, _ = measure(tmp_path, source, ["agcam"], ["localization", "max_box_acc", "abpc", "positive_negative"])
    model, batch, maps = shapes_model(), whole_batch(source), read_heatmaps(tmp_path, "agcam")
    row = results.rows[0]
    assert {name: len(info.x) for name, info in results.curves.items()} == {
        name: len(row.curves[name]) for name in row.curves
    }
    abpc, perturbed = ABPC(model), PositiveNegative(model)
    abpc.update(batch.image, maps, batch.label)
    perturbed.update(batch.image, maps, batch.label)
    for name in ("lerf", "morf"):
        assert row.curves[name] == pytest.approx(abpc.compute()[name].tolist(), abs=1e-6)
    for name in ("positive", "negative"):
        assert row.curves[name] == pytest.approx(perturbed.compute()[f"{name}_curve"].tolist(), abs=1e-6)
    for place in (3, 16):
        metric = Localization(threshold=results.curves["iou_sweep"].x[place])
        metric.update(maps, batch.boxes, image_size=SIZE)
        assert row.curves["iou_sweep"][place] == pytest.approx(float(metric.compute()["iou"]), abs=1e-6)
        fixed = GTKnownLoc(threshold=results.curves["box_accuracy"].x[place])
        fixed.update(maps, batch.boxes, SIZE)
        assert row.curves["box_accuracy"][place] == pytest.approx(float(fixed.compute()["gt_known_loc"]), abs=1e-6)


def test_dear_figures_are_those_of_the_metrics(tmp_path: Path) -> None:
    source = ShapesDataset(6, 32, "val")
    results, _ = measure(tmp_path, source, ["agcam", "rollout:head_fusion=max"], ["road", "sanity"])
    model, batch = shapes_model(), whole_batch(source)
    for label, name, options in (
        ("agcam", "agcam", {}),
        ("rollout:head_fusion=max", "rollout", {"head_fusion": "max"}),
    ):

        def maps_of(asked: nn.Module, images: Tensor, name: str = name, options: dict[str, str] = options) -> Tensor:
            return explain(asked, images, batch.label, name, **options).heatmaps[:, 0]

        road = ROAD(model)
        road.update(batch.image, read_heatmaps(tmp_path, label), batch.label)
        expected = named(road.compute(), "road") | named(road.compute(), "lerf_auc", "morf_auc", prefix="road/")
        for mode in ("cascading", "independent"):
            metric = ParameterRandomization(model, maps_of, mode)
            metric.update(batch.image)
            for kind in ("spearman", "ssim"):
                expected[f"sanity/{mode}_{kind}"] = (float(metric.compute()[kind].mean()), 6)
        close(figures_of(results, label), expected)
    assert figures_of(results, "center")["sanity/cascading_spearman"] == (pytest.approx(1, abs=1e-4), 6)


@pytest.fixture(scope="module")
def multilabel(tmp_path_factory: pytest.TempPathFactory, _small_shards: None) -> Several:
    source, output = ShapesDataset(16, 32, "val", multilabel=True), tmp_path_factory.mktemp("multilabel")
    names = ["localization", "leem2024", "max_box_acc", "abpc", "positive_negative"]
    return *measure(output, source, ["agcam"], names), source, read_heatmaps(output, "agcam")


def test_each_present_class_is_a_row_against_its_own_boxes(multilabel: Several) -> None:
    results, shard, source, maps = multilabel
    model, batch = shapes_model(), whole_batch(source)
    pairs = [(image, label) for image in range(16) for label in source[image].labels]
    assert list(zip(shard.pairs["index"].tolist(), shard.pairs["target"].tolist(), strict=True)) == pairs
    assert (results.images, results.pairs) == (16, len(pairs))
    image, label = torch.tensor(pairs).T

    whole = Localization()
    whole.update(maps, [boxes_of(batch, *pair) for pair in pairs], image_size=SIZE)
    expected = named(whole.compute(), "iou", "recall", prefix="localization/")
    curves = abpc_curves(model, batch.image[image], maps, label, multilabel=True)
    lerf, morf = (float(curve.double().mean()) for curve in curves)
    expected |= {"abpc": (lerf - morf, len(pairs)), "lerf_auc": (lerf, len(pairs)), "morf_auc": (morf, len(pairs))}
    found = figures_of(results, "agcam")
    close({name: found[name] for name in expected}, expected)


def test_what_asks_for_one_class_counts_images_of_one_class(multilabel: Several) -> None:
    results, _, source, _ = multilabel
    with torch.no_grad():
        first = shapes_model()(whole_batch(source).image).argmax(1).tolist()
    alone = [image for image in range(16) if len(source[image].labels) == 1]
    right = [image for image in alone if source[image].labels[0] == first[image]]
    counts = {name: count for name, (_, count) in figures_of(results, "agcam").items()}
    assert 0 < len(right) < len(alone) < 16
    assert (counts["leem2024/iou"], counts["positive"], counts["top1_loc"]) == (len(right), len(alone), results.pairs)
    present = [first[image] in source[image].labels for image in range(16)]
    assert results.top1_accuracy.value == pytest.approx(sum(present) / 16)


def test_intervals_draw_the_classes_of_an_image_together(multilabel: Several) -> None:
    results, shard, _, _ = multilabel
    found = results.rows[0].values["localization/iou"]
    rows = torch.from_numpy(shard.rows["agcam"]["localization"])
    images, each = torch.from_numpy(shard.pairs["index"]), torch.arange(len(rows))
    together, apart = (bootstrap_of_mean(rows, lambda mean: mean[..., 1], groups) for groups in (images, each))
    assert (found.low, found.high) == together
    assert (found.low, found.high) != apart


def test_why_a_metric_is_absent_is_told_by_what_it_takes(tmp_path: Path) -> None:
    for against_masks, kind in ((False, "boxes"), (True, "masks")):
        results, _ = measure(tmp_path / kind, Bare(4, 32, "val"), ["agcam"], default_metrics(), against_masks)
        takes = "no image counts; it takes images of one class, with a right top-1 class and a known object"
        assert results.absent == {
            "localization": f"the data have no {kind}",
            "leem2024": takes,
            "max_box_acc": "the data have no boxes",
            "max_box_acc_v2": "the data have no boxes",
            "pxap": "the data have no masks",
            "segmentation": "the data have no masks",
            "pointing_game": f"the data have no {kind}",
            "energy_pointing_game": f"the data have no {kind}",
        }
        assert figures_of(results, "agcam")["abpc"][1] == figures_of(results, "center")["insertion"][1] == 4


def test_metrics_come_in_the_order_of_the_table_whatever_the_order_asked_for() -> None:
    assert [spec.name for spec in parse_metrics(["abpc", "localization"])] == ["localization", "abpc"]
    assert parse_metrics(["abpc", "all"]) == list(metric_specs().values())
    assert set(default_metrics()) == set(metric_specs()) - {"road", "sanity"}
    with pytest.raises(InputError, match=r"unknown metric 'iou'; known are localization, leem2024, .*, sanity and all"):
        parse_metrics(["abpc", "iou"])
