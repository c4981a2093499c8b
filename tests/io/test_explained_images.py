import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from agcam.errors import DataError
from agcam.io.explained_images import ExplainedImage, read_panel, write_panel


def entry(**changes: object) -> ExplainedImage:
    rng = np.random.default_rng(0)
    return dataclasses.replace(
        ExplainedImage(
            index=3,
            name="birds/heron.jpg",
            image=rng.integers(0, 255, (8, 12, 3)).astype(np.uint8),
            explained="heron",
            truth=("heron", "frog"),
            predicted="frog",
            probability=0.25,
            boxes=np.array([[1.0, 2.0, 5.5, 7.0]]),
            mask=rng.random((8, 12)) > 0.5,
            heatmaps={"agcam": rng.random((2, 3)).astype(np.float32), "agcam:x=1/2": np.zeros((4, 4), np.float32)},
            figures={"agcam": {"iou": 0.5, "abpc": float("nan")}},
            curves={"agcam": {"morf": [0.9, 0.1]}},
        ),
        **changes,
    )


def test_a_panel_comes_back_as_it_was(tmp_path: Path) -> None:
    wanted = [entry(), entry(index=4, mask=None, boxes=np.zeros((0, 4)), figures={}, curves={})]
    write_panel(tmp_path / "val_epoch_000", wanted, {"stage": "val", "epoch": 0, "step": 12})
    found, info = read_panel(tmp_path / "val_epoch_000")
    assert info == {"stage": "val", "epoch": 0, "step": 12}
    for one, other in zip(wanted, found, strict=True):
        for field in dataclasses.fields(ExplainedImage):
            a, b = getattr(one, field.name), getattr(other, field.name)
            if field.name == "heatmaps":
                assert list(a) == list(b)
                assert all(np.array_equal(a[m], b[m]) and b[m].dtype == np.float32 for m in a)
            elif field.name == "figures":
                np.testing.assert_equal(a, b)
            elif isinstance(a, np.ndarray):
                np.testing.assert_array_equal(a, b)
            else:
                assert a == b, field.name
    assert not list(tmp_path.rglob(".*"))


def test_epochs_share_one_copy_of_an_image(tmp_path: Path) -> None:
    for epoch in range(3):
        write_panel(tmp_path / f"val_epoch_{epoch:03d}", [entry(), entry(explained="frog")], {"epoch": epoch})
    assert len(list((tmp_path / "images").iterdir())) == 1
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "images").iterdir()}
    write_panel(tmp_path / "val_epoch_003", [entry()], {"epoch": 3})
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "images").iterdir()} == before


def test_photographs_are_stored_small_and_close(tmp_path: Path) -> None:
    y, x = np.mgrid[:224, :224]
    texture = np.random.default_rng(0).normal(0, 12, (224, 224))
    photo = (np.stack([x, y, x + y], 2) / 2 + texture[..., None]).clip(0, 255).astype(np.uint8)
    write_panel(tmp_path / "panel", [entry(image=photo, mask=None)], {})
    (path,) = (tmp_path / "images").iterdir()
    assert path.stat().st_size < 80_000
    found = read_panel(tmp_path / "panel")[0][0].image
    assert np.abs(found.astype(int) - photo).mean() < 4


def test_any_name_survives(tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", "שלום עולם", "a\u2028b'\"\\\x00", "bytes-\udcff.jpg", "x" * 10_000, ""]
    wanted = [entry(name=n, explained=n, truth=(n,), predicted=n, heatmaps={n: np.ones((1, 1))}) for n in names]
    write_panel(tmp_path / "panel", wanted, {"note": names[3]})
    found, info = read_panel(tmp_path / "panel")
    assert [f.name for f in found] == [f.explained for f in found] == [f.predicted for f in found] == names
    assert [list(f.heatmaps) for f in found] == [[n] for n in names]
    assert info == {"note": names[3]}


def test_a_heatmap_with_nan_is_kept_for_the_reader_to_judge(tmp_path: Path) -> None:
    write_panel(tmp_path / "panel", [entry(heatmaps={"agcam": np.array([[np.nan, 1]])})], {})
    assert np.isnan(read_panel(tmp_path / "panel")[0][0].heatmaps["agcam"]).any()


def test_an_empty_panel_is_a_panel(tmp_path: Path) -> None:
    write_panel(tmp_path / "panel", [], {"epoch": 1})
    assert read_panel(tmp_path / "panel") == ([], {"epoch": 1})


@pytest.mark.parametrize("path", ["panel/panel.json", "panel/panel.npz", "images/*"])
@pytest.mark.parametrize("damage", ["gone", "empty", "half", "other"])
def test_damage_is_named(tmp_path: Path, path: str, damage: str) -> None:
    write_panel(tmp_path / "panel", [entry()], {})
    (file,) = tmp_path.glob(path)
    if damage == "gone":
        file.unlink()
    else:
        content = file.read_bytes()
        file.write_bytes({"empty": b"", "half": content[: len(content) // 2], "other": b"[1, 2]"}[damage])
    with pytest.raises(DataError, match=file.name):
        read_panel(tmp_path / "panel")


@pytest.mark.parametrize(
    "change",
    [
        {"name": 5},
        {"image": "../../../etc/passwd"},
        {"image": None},
        {"truth": [1]},
        {"boxes": [[1, 2]]},
        {"figures": {"agcam": {"iou": "much"}}},
        {"curves": []},
        {"probability": "x"},
    ],
)
def test_facts_that_make_no_sense_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    write_panel(tmp_path / "panel", [entry()], {})
    path = tmp_path / "panel" / "panel.json"
    facts = json.loads(path.read_text())
    facts["shown"][0] |= change
    path.write_text(json.dumps(facts))
    with pytest.raises(DataError, match=r"panel\.json"):
        read_panel(tmp_path / "panel")


def test_another_schema_is_refused(tmp_path: Path) -> None:
    write_panel(tmp_path / "panel", [entry()], {})
    path = tmp_path / "panel" / "panel.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    with pytest.raises(DataError, match="99"):
        read_panel(tmp_path / "panel")
