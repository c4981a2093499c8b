"""Masks whose colors or values a list explains."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agcam.data import VOC2012
from agcam.data.shapes import CLASSES
from agcam.errors import DataError
from voc_trees import annotation, devkit, opened

CVAT = """# label:color_rgb:parts:actions
background:0,0,0::
cat:250,50,83::
bird:61,61,245::
dog:50,183,250::
"""
COLORS = {"background": (0, 0, 0), "cat": (250, 50, 83), "bird": (61, 61, 245), "dog": (50, 183, 250)}
SHOWN = [["background", "cat", "cat"], ["bird", "dog", "dog"]]


def tree(root: Path, mode: str = "RGB", label_map: str = CVAT) -> Path:
    """A tree as CVAT exports "Segmentation mask" and "PASCAL VOC": one image set, masks in color."""
    devkit(root, "a.jpg", "b.jpg", sets={"train": "a", "val": "b"})
    (root / "labelmap.txt").write_text(label_map)
    (root / "SegmentationClass").mkdir()
    rows = np.array([[COLORS[name] for name in row] for row in SHOWN], np.uint8)
    image = Image.fromarray(rows.repeat(15, 0).repeat(14, 1)[:, :40])
    for name in ("a", "b"):
        stored = image.quantize(8) if mode == "P" else image.convert(mode)
        stored.save(root / f"SegmentationClass/{name}.png")
        objects = [(label, (1, 1, 9, 9)) for label in ("cat", "bird", "dog")]
        (root / f"Annotations/{name}.xml").write_text(annotation(objects))
    return root


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize(
    ("classes", "values"),
    [
        (["cat", "dog"], [[0, 1], [0, 2]]),  # what is not trained on is background
        (["dog", "bird", "cat"], [[0, 3], [2, 1]]),
    ],
)
def test_colors_mean_what_the_label_map_says(
    mode: str, classes: list[str], values: list[list[int]], tmp_path: Path
) -> None:
    mask = opened(tree(tmp_path, mode), classes).open("train")[0].mask
    assert mask[::15, 0].tolist() == [row[0] for row in values]
    assert mask[::15, 39].tolist() == [row[1] for row in values]
    assert mask.shape == (30, 40)


def test_masks_in_color_are_trained_on_by_workers(tmp_path: Path) -> None:
    data = VOC2012(root=str(tree(tmp_path)), classes=["cat", "dog"], num_workers=1, image_size=16)
    data.setup("fit")
    (batch,) = data.val_dataloader()
    assert batch.mask.unique().tolist() == [0, 1, 2]


def test_a_color_that_no_line_names_is_known_before_training(tmp_path: Path) -> None:
    root = tree(tmp_path, label_map=CVAT.replace("bird:61,61,245::\n", ""))
    with pytest.raises(DataError, match=r"a\.png: mask color 61,61,245 is none that .*labelmap\.txt names"):
        opened(root)


def test_masks_are_left_alone_when_switched_off(tmp_path: Path) -> None:
    root = tree(tmp_path, label_map="cat:broken")
    assert opened(root, masks=False).open("train")[0].mask is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cat", "1: found 'cat', expected 'cat:128,0,0::'"),
        ("background:0,0,0::\ncat:1,2::", "2: found 'cat:1,2::', expected"),
        ("cat:1,2,256::", "1: found"),
        ("cat:1,2,x::", "1: found"),
        (":1,2,3::", "1: found"),
        ("cat:1,2,3::\ndog:1,2,3::", " 'dog' has the color of another label"),
        ("cat:1,2,3::\nDogs:1,2,4::", " no line says how masks show 'dog', but one names 'Dogs'; add it"),
        ("cat:1,2,3::\ndog:::", " no line says how masks show 'dog'; add it"),
    ],
)
def test_a_label_map_that_is_wrong_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"labelmap\.txt:{said}"):
        opened(tree(tmp_path, label_map=text))


def test_ignored_pixels_stay_ignored(tmp_path: Path) -> None:
    root = tree(tmp_path, label_map=CVAT.replace("bird:", "ignored:"))
    assert opened(root).open("train")[0].mask[29, 0] == 255


def test_values_of_labelme_follow_its_list(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "labelmap.txt").unlink()
    (root / "class_names.txt").write_text("_background_\nbird\ncat\ndog")
    for name in ("a", "b"):
        values = np.array([[0, 1], [2, 3]], np.uint8).repeat(15, 0).repeat(20, 1)
        values[29, 39] = 255
        mask = Image.fromarray(values, mode="P")
        mask.putpalette(list(range(256)) * 3)
        mask.save(root / f"SegmentationClass/{name}.png")
    mask = opened(root, ["dog", "cat"]).open("train")[0].mask
    assert [mask[0, 0], mask[0, 39], mask[29, 0], mask[28, 39], mask[29, 39]] == [0, 0, 2, 1, 255]


def test_masks_of_an_unknown_order_are_left_out_and_said(
    voc_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = Path(shutil.copytree(voc_root, tmp_path / "VOC2012"))
    source = opened(root, CLASSES[2:5]).open("train")
    assert all(source[i].mask is None for i in range(16))
    assert "left out 16 masks: their values count classes that --data.classes does not name" in caplog.text
    assert "labelmap.txt, a line each" in caplog.text


def test_a_cache_is_built_again_for_other_classes(tmp_path: Path) -> None:
    root, cache = tree(tmp_path / "data"), tmp_path / "cache"
    data = opened(root, ["cat", "dog"], cache=str(cache), cache_size=30)
    assert data._sources["train"][0].mask[29, 39] == 2
    data = opened(root, ["dog", "cat"], cache=str(cache), cache_size=30)
    assert data._sources["train"][0].mask[29, 39] == 1
