from pathlib import Path
from typing import Any

import pytest

from agcam.errors import DataError
from agcam.io.explained_folder import JOURNAL, ExplainedFolder, file_state

ABOUT: dict[str, Any] = {"started": "2026-11-26", "model": "m"}


def entry(path: Path) -> dict[str, Any]:
    name = path.stem
    return {
        "file": file_state(path),
        "stem": name,
        "view": f"{name}.view.jpg",
        "heatmaps": f"{name}.npz",
        "classes": [],
    }


def photos(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).write_text(name)
    return [folder / name for name in names]


def begun(folder: Path) -> ExplainedFolder:
    found = ExplainedFolder(folder, {"--top": 1}, ABOUT)
    found.begin()
    return found


def test_a_line_that_a_kill_has_cut_is_written_again(tmp_path: Path) -> None:
    a, b = photos(tmp_path, "a.jpg", "b.jpg")
    out = tmp_path / "out"
    first = begun(out)
    first.add([(a, entry(a)), (b, entry(b))])
    journal = (out / JOURNAL).read_bytes()
    for cut in range(1, len(journal)):
        (out / JOURNAL).write_bytes(journal[:-cut])
        again = begun(out)
        assert not again.done(b)
        again.add([(b, entry(b))])
        third = ExplainedFolder(out, {"--top": 1}, ABOUT)
        assert third.done(b)
        assert third.done(a) == again.done(a)


def test_a_kill_between_the_last_two_steps_doubles_nothing(tmp_path: Path) -> None:
    (a,) = photos(tmp_path, "a.jpg")
    out = tmp_path / "out"
    first = begun(out)
    first.add([(a, entry(a))])
    journal = (out / JOURNAL).read_bytes()
    first.finish()
    (out / JOURNAL).write_bytes(journal)
    again = ExplainedFolder(out, {"--top": 1}, ABOUT)
    assert again.done(a)
    assert len(again.images_of([a])) == len(again.entries) == 1
    assert [run["images"] for run in again.runs] == [1]


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(b'{"file": 3}\n')
    with pytest.raises(DataError, match=r"progress\.jsonl: not what agcam images writes .* remove it to start over"):
        ExplainedFolder(tmp_path, {}, ABOUT)
