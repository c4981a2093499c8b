"""Reports have figures class by class, the worst first, and what is taken for what, for two classes or two hundred."""

import json
from pathlib import Path

import made_up
import numpy as np
import pytest
from browsing import Visit

from agcam.io.json import write_json
from agcam.metrics.classification.average_precision import average_precision
from agcam.metrics.classification.by_class import (
    CLASSES,
    ClassFigures,
    mean_by_class,
    multi_label_figures,
    single_label_figures,
)
from agcam.report.classes import MOST_CELLS, show_classes
from agcam.report.write import open_report, write_report


def many(classes: int, images: int = 2000) -> ClassFigures:
    rng = np.random.default_rng(0)
    label = rng.integers(0, classes, images)
    said = np.where(rng.random(images) < 0.7, label, rng.integers(0, classes, images))
    return single_label_figures([f"class {c}" for c in range(classes)], label, said, rng.random(classes).tolist())


def test_counts_are_those_of_plain_loops() -> None:
    label, said = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 0, 2])
    found = single_label_figures("abcd", label, said, mean_by_class(label, np.array([0.5, np.nan, 1, 0, 0, 0.3]), 4))
    assert found.images == [2, 1, 3, 0]
    assert found.score[:3] == pytest.approx([1 / 2, 1, 1 / 3])
    assert np.isnan(found.score[3])
    assert found.iou[:3] == pytest.approx([0.5, 1, 0.1])
    assert found.confused == [[0, 0, 1], [0, 1, 1], [1, 1, 1], [2, 0, 2], [2, 2, 1]]


def test_average_precision_is_that_of_each_class() -> None:
    import torch

    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(30, 3)).astype(np.float32), rng.random((30, 3)) < 0.3
    truth[:, 2] = False
    found = multi_label_figures("abc", logits, truth, [0.0] * 3)
    expected = [
        float(average_precision(torch.from_numpy(logits[None, :, c]), torch.from_numpy(truth[None, :, c])))
        for c in (0, 1)
    ]
    assert found.score[:2] == pytest.approx(expected)
    assert np.isnan(found.score[2])
    assert found.confused == []


def test_the_worst_classes_and_the_most_frequent_mistakes_come_first() -> None:
    shown = show_classes(
        single_label_figures("abc", np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 0, 2]), [0.5] * 3)
    )
    assert [row[0] for row in shown.rows] == ["c", "a", "b"]
    assert shown.pairs[0] == ("c", "a", "2", "66.7\N{NO-BREAK SPACE}%")
    assert shown.confusion is not None
    assert [[count for count, _ in row] for row in shown.confusion.cells] == [[1, 1, 0], [0, 1, 0], [2, 0, 1]]


def test_two_hundred_classes_stay_readable(tmp_path: Path, visit: Visit) -> None:
    run = made_up.run(tmp_path / "version_0", [[made_up.shown(0)]])
    write_json(run / "explanations" / "val_epoch_001" / CLASSES, many(200))
    page = visit(write_report(run), 390, 844)
    assert page.js("return document.documentElement.scrollWidth") <= 390
    assert page.js("return document.querySelector('img.matrix').naturalWidth") == 200
    assert page.js("return document.querySelectorAll('#classes tbody tr').length") == 220
    assert page.one("#classes .scroll").size["height"] < 500


def test_few_classes_have_numbers(tmp_path: Path, visit: Visit) -> None:
    run = made_up.run(tmp_path / "version_0", [[made_up.shown(0)]])
    write_json(run / "explanations" / "val_epoch_001" / CLASSES, many(MOST_CELLS))
    page = visit(write_report(run))
    cells = page.js("return [...document.querySelectorAll('.matrix td')].map((e) => Number(e.textContent))")
    assert (len(cells), sum(cells)) == (MOST_CELLS**2, 2000)


def test_printed_tables_of_many_classes_and_long_facts_are_whole(tmp_path: Path, visit: Visit) -> None:
    run = made_up.run(tmp_path / "version_0", [[made_up.shown(0)]])
    write_json(run / "explanations" / "val_epoch_001" / CLASSES, many(40))
    page = visit(write_report(run))
    cut = (
        "return [...document.querySelectorAll('.scroll, dd')].filter((e) => e.scrollHeight > e.clientHeight + 1).length"
    )
    page.js("document.querySelector('dd').textContent = 'word '.repeat(200)")
    assert page.js(cut) > 1  # else this proves nothing
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert page.js(cut) == 0
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_benchmark_and_a_run_without_them_say_nothing(tmp_path: Path) -> None:
    assert open_report(made_up.run(tmp_path / "version_0", [[made_up.shown(0)]])).classes is None
    written = write_report(made_up.benchmark(tmp_path / "b", [made_up.shown(0)]))
    assert 'id="classes"' not in written.read_text("utf-8")


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    from agcam.errors import DataError

    run = made_up.run(tmp_path / "version_0", [[made_up.shown(0)]])
    path = run / "explanations" / "val_epoch_001" / CLASSES
    path.write_text(json.dumps({"names": ["a"]}))
    with pytest.raises(DataError, match=CLASSES):
        open_report(run)
