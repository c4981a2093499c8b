"""Epochs count from 1; runs of older versions, which counted from 0, are read right and do not mix when resumed."""

from pathlib import Path

import made_up
import pytest

from agcam.errors import DataError
from agcam.io.epoch_folders import count_from_one, epoch_folder
from agcam.io.explained_images import read_panel, write_panel
from agcam.report.write import open_report


def older_run(folder: Path) -> Path:
    """A run of three epochs as versions wrote it that counted from 0."""
    run = made_up.run(folder, [])
    for epoch in range(3):
        info = {"stage": "val", "epoch": epoch, "step": 10 * (epoch + 1)}
        write_panel(run / "explanations" / f"val_epoch_{epoch:03d}", [made_up.shown(epoch)], info)
    return run


def shown_by_epoch(run: Path) -> dict[str, int]:
    return {frame.label: frame.shown[0].index for frame in open_report(run).frames}


def test_an_older_run_is_shown_with_epochs_from_1(tmp_path: Path) -> None:
    assert shown_by_epoch(older_run(tmp_path / "run")) == {"epoch 1": 0, "epoch 2": 1, "epoch 3": 2}


@pytest.mark.parametrize("renamed_before", [0, 1])
def test_an_older_run_that_is_resumed_is_counted_from_1(renamed_before: int, tmp_path: Path) -> None:
    run = older_run(tmp_path / "run")
    folder = run / "explanations"
    if renamed_before:  # killed between the first folder's new name and its panel
        (folder / "val_epoch_002").rename(folder / "val_epoch_003")
    count_from_one(folder)
    count_from_one(folder)
    names = sorted(path.name for path in folder.glob("val_*"))
    assert names == [epoch_folder("val", number) for number in (1, 2, 3)]
    assert [read_panel(folder / name)[1]["epoch"] for name in names] == [1, 2, 3]
    assert shown_by_epoch(run) == {"epoch 1": 0, "epoch 2": 1, "epoch 3": 2}


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    folder = older_run(tmp_path / "run") / "explanations"
    (folder / "val_epoch_003").mkdir()
    with pytest.raises(DataError, match="val_epoch_003 is in the way"):
        count_from_one(folder)
