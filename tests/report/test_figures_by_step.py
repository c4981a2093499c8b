"""A run's metrics.csv holds rows of no epoch, too: learning rates, what the device did, what users log."""

from __future__ import annotations

from pathlib import Path

import pytest

from agcam.report.model import Report, Series
from agcam.report.write import open_report, write_report
from reading import page_data


def report_of(folder: Path, metrics: str) -> Report:
    (folder / "metrics.csv").write_text(metrics)
    return open_report(folder)


def line(report: Report, label: str) -> Series:
    (found,) = (line for chart in report.charts for line in chart.lines if line.label == label)
    return found


def test_rows_without_an_epoch_are_left_out_and_named(tmp_path: Path) -> None:
    report = report_of(
        tmp_path,
        "epoch,step,lr-AdamW/pg1,DeviceStatsMonitor.on_train_batch_start/cpu_percent,train/loss,late\n"
        ",0,0.001,50.0,,\n"
        "0,0,,,1.0,\n"
        ",1,0.002,,,\n"
        "0,1,,,3.0,\n"
        "1,2,,,4.0,7.0\n"
        "2,3,,,,9.0\n",
    )
    loss, late = line(report, "training"), line(report, "late")
    assert (loss.x, loss.y) == ([1.0, 2.0], [2.0, 4.0])
    assert (late.x, late.y) == ([2.0, 3.0], [7.0, 9.0])
    (metrics,) = report.links
    by_step = "; and what is logged by step and has no curve here: DeviceStatsMonitor.on_train_batch_start, lr-AdamW"
    assert metrics.what == f"every metric of every epoch{by_step}"
    assert by_step in write_report(tmp_path).read_text()


def test_a_figure_that_is_logged_both_ways_has_its_epochs(tmp_path: Path) -> None:
    report = report_of(tmp_path, "epoch,step,mine\n,0,5.0\n0,1,1.0\n1,2,2.0\n,3,9.0\n")
    mine = line(report, "mine")
    assert (mine.x, mine.y) == ([1.0, 2.0], [1.0, 2.0])
    assert [link.what for link in report.links] == ["every metric of every epoch"]


def test_many_figures_by_step_are_counted(tmp_path: Path) -> None:
    names = [f"mine_{number:02d}" for number in range(14)]
    report = report_of(tmp_path, f"epoch,step,{','.join(names)}\n,0,{','.join(['0.1'] * 14)}\n")
    assert report.links[0].what.endswith(f": {', '.join(names[:5])} and 9 more")
    assert report.charts == []


@pytest.mark.parametrize("name", ["é", "a b", '"a, b"', "/", "val/", "/loss", "val/loc", "val/loc_/iou", "<b>", "loss"])
def test_whatever_a_figure_is_called_there_is_a_report(name: str, tmp_path: Path) -> None:
    report_of(tmp_path, f"epoch,step,{name}\n0,0,1.0\n1,1,nan\n2,2,inf\n")
    assert page_data(write_report(tmp_path))
