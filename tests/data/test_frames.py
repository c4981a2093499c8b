"""Which image an annotation was drawn on: as it lies on disk, turned upright by EXIF, or before it was shrunk."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agcam.data import CUB200, ImageNet1k
from agcam.data.frames import find_frame
from agcam.data.source import FileDataset
from agcam.errors import DataError
from agcam.io.images import ImageHeader, turn_upright
from voc_trees import annotation, devkit, opened, picture

STORED, UPRIGHT = (40, 30), (30, 40)
BOX = (6, 5, 21, 14)  # 16×10 pixels whose first ones are column 6 and row 5, counted from 1


def source(
    root: Path, orientation: int, size: tuple[object, object] | None, now: tuple[int, int] = STORED
) -> FileDataset:
    devkit(root, "a.jpg", "b.jpg", sets={"train": "a", "val": "b"})
    picture(root / "JPEGImages/a.jpg", now, orientation)
    (root / "Annotations/a.xml").write_text(annotation([("cat", BOX)], size))
    return opened(root).open("train")


def turned(orientation: int) -> list[int]:
    """The box after a drawing of it was turned upright, pixel by pixel."""
    drawn = np.zeros(STORED[::-1], np.uint8)
    drawn[4:14, 5:21] = 1
    ys, xs = np.nonzero(turn_upright(drawn, orientation))
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_of_an_image_as_it_lies_turn_along(
    orientation: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert source(tmp_path, orientation, STORED).items[0].boxes.tolist() == [turned(orientation)]
    said = "1 images are turned by EXIF, and nothing tells" in caplog.text
    assert said == (orientation in (2, 3, 4))  # there both frames are of one size
    assert not said or "a.jpg" in caplog.text


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_of_the_upright_image_are_not_turned_again(
    orientation: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = source(tmp_path, orientation, UPRIGHT)
    assert found.items[0].boxes.tolist() == [[5, 4, 21, 14]]
    assert found[0].image.shape[:2] == (40, 30)
    assert "EXIF" not in caplog.text


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
@pytest.mark.parametrize("size", [None, (0, 0), ("", ""), ("wide", 40), (-30, 40), ("nan", "inf")])
def test_of_an_unknown_size_the_image_as_it_lies_is_taken_and_said(
    size: tuple[object, object] | None, orientation: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert source(tmp_path, orientation, size).items[0].boxes.tolist() == [turned(orientation)]
    assert "nothing tells whether their boxes and masks were drawn before or after that" in caplog.text


def test_a_size_of_0_is_no_matter_where_nothing_turns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert source(tmp_path, 1, (0, 0)).items[0].boxes.tolist() == [[5, 4, 21, 14]]
    assert "EXIF" not in caplog.text
    assert "shrunk" not in caplog.text


def test_a_square_image_that_exif_turns_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = source(tmp_path, 6, (30, 30), (30, 30))
    assert found.items[0].boxes.tolist() == [[30 - 14, 5, 30 - 4, 21]]
    assert "1 images are turned by EXIF, and nothing tells" in caplog.text


def test_boxes_of_a_shrunk_image_are_scaled_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    devkit(tmp_path, "a.jpg", "c.jpg", "b.jpg", sets={"train": "a\nc", "val": "b"})
    for name in ("a", "c"):
        picture(tmp_path / f"JPEGImages/{name}.jpg", (50, 40))
        (tmp_path / f"Annotations/{name}.xml").write_text(annotation([("cat", (11, 11, 51, 61))], (100, 80)))
    items = opened(tmp_path).open("train").items
    assert [item.boxes.tolist() for item in items] == [[[5, 5, 25.5, 30.5]]] * 2
    said = [r.getMessage() for r in caplog.records if "shrunk" in r.getMessage()]
    assert said[0].startswith("2 images were shrunk or enlarged")
    assert "a.jpg (annotated at 100×80)" in said[0]


@pytest.mark.parametrize("now", [(33, 25), (34, 25), (33, 24), (20, 15), (7, 5), (80, 60), (41, 31)])
def test_sides_that_were_rounded_are_of_one_shape(now: tuple[int, int], tmp_path: Path) -> None:
    (box,) = source(tmp_path, 1, STORED, now).items[0].boxes
    assert box == pytest.approx(np.array([5, 4, 21, 14]) * np.array([now[0] / 40, now[1] / 30] * 2), abs=1e-5)


@pytest.mark.parametrize(
    ("orientation", "now"), [(1, (30, 40)), (1, (30, 30)), (3, (30, 40)), (6, (30, 30)), (1, (400, 310))]
)
def test_an_image_of_another_shape_is_refused_naming_both_sizes(
    orientation: int, now: tuple[int, int], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=rf"a\.xml: .*is 40×30, and .*a\.jpg is {now[0]}×{now[1]}, of another shape"):
        source(tmp_path, orientation, STORED, now)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((80, 60), [15 - 7, 2.5, 15 - 2, 10.5]),  # as it lies: halved, then turned by 90°
        ((60, 80), [2.5, 2, 10.5, 7]),  # upright: halved
    ],
)
def test_a_size_tells_shrinking_and_turning_at_once(size: tuple[int, int], box: list[float], tmp_path: Path) -> None:
    found = source(tmp_path, 6, size, (40, 30))
    expected = np.array(box) + ([15, 0, 15, 0] if size == (80, 60) else 0)
    assert found.items[0].boxes.tolist() == [expected.tolist()]
    assert found[0].image.shape[:2] == (40, 30)


def test_an_image_without_objects_may_be_of_any_shape(tmp_path: Path) -> None:
    devkit(tmp_path, "a.jpg", "b.jpg", "c.jpg", sets={"train": "a\nc", "val": "b"})
    (tmp_path / "Annotations/a.xml").write_text(annotation([], (10, 100)))
    assert len(opened(tmp_path).open("train")) == 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_tells_by_its_size_whether_it_turns(
    orientation: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = np.zeros(UPRIGHT[::-1] if orientation > 4 else STORED[::-1], np.uint8)
    values[2:9, 3:20] = 1
    path = tmp_path / "SegmentationClass/a.png"
    path.parent.mkdir()
    Image.fromarray(values).save(path)
    size = UPRIGHT if orientation > 4 else STORED
    mask = source(tmp_path, orientation, size)[0].mask
    expected = values if orientation > 4 else turn_upright(values, orientation)
    assert np.array_equal(mask, expected)
    assert ("nothing tells" in caplog.text) == (orientation in (2, 3, 4))


def test_a_mask_of_another_size_is_refused_also_where_its_shape_fits(tmp_path: Path) -> None:
    path = tmp_path / "SegmentationClass/a.png"
    path.parent.mkdir()
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(path)
    with pytest.raises(DataError, match=r"a\.png: the mask is 80×60, its image a\.jpg is 40×30"):
        source(tmp_path, 1, STORED)


def test_imagenet_boxes_are_of_the_size_in_their_annotation_too(tmp_path: Path) -> None:
    wnid = "n01440764"
    (tmp_path / "LOC_synset_mapping.txt").write_text(f"{wnid} tench, Tinca tinca\n")
    for number, (now, orientation) in enumerate([((50, 40), 1), ((80, 100), 6), ((100, 80), 6)]):
        picture(tmp_path / f"Data/CLS-LOC/train/{wnid}/{number}.JPEG", now, orientation)
        path = tmp_path / f"Annotations/CLS-LOC/train/{wnid}/{number}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(annotation([(wnid, (10, 10, 50, 60))], (100, 80)))
    boxes = [item.boxes.tolist() for item in ImageNet1k(root=str(tmp_path)).open("train").items]
    # half the size; upright already; turned by 90° from how it lies
    assert boxes == [[[5, 5, 25.5, 30.5]], [[10, 10, 51, 61]], [[80 - 61, 10, 80 - 10, 51]]]


def test_cub_says_which_reading_it_takes(cub_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = Path(shutil.copytree(cub_root, tmp_path / "CUB_200_2011"))
    name = (root / "images.txt").read_text().split()[1]
    picture(root / "images" / name, (48, 48), 3)
    assert len(CUB200(root=str(root)).open("train")) == 24
    assert "1 images are turned by EXIF, and nothing tells" in caplog.text
    assert name in caplog.text


def test_no_frame_fits_a_size_that_is_neither() -> None:
    assert find_frame((30.0, 40.0), ImageHeader(40, 30, 1)) is None
    assert find_frame((1e30, 1.0), ImageHeader(40, 30, 6)) is None
