"""Data in VOC format as today's tools lay it out: labelImg, CVAT, Roboflow, VoTT, labelme."""

from pathlib import Path

import pytest

from agcam.errors import DataError, InputError
from voc_trees import BOX, annotated, annotation, devkit, names_in, opened, picture

MANY = [f"{n:02d}" for n in range(30)]


@pytest.mark.parametrize("suffix", [".png", ".jpeg", ".JPG", ".JPEG", ".bmp", ".webp", ".tif"])
def test_images_of_any_suffix_are_found(suffix: str, tmp_path: Path) -> None:
    devkit(tmp_path, f"a{suffix}", f"b{suffix}", sets={"train": "a", "val": "b"})
    item = opened(tmp_path).open("train").items[0]
    assert (item.name, item.path.name, item.boxes.tolist()) == ("a", f"a{suffix}", [[4, 3, 20, 16]])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("photo\nphoto (1)\nmy photo", ["photo", "photo (1)", "my photo"]),
        ("photo  1\nphoto (1) -1\nmy photo  0", ["photo", "photo (1)", "my photo"]),
        ("photo.png 1\nphoto (1).png -1\nmy photo.png 0", ["photo", "photo (1)", "my photo"]),  # VoTT
        ("photo.png\nphoto (1).png", ["photo", "photo (1)"]),
        ('photo\n"photo (1)"\n"my photo"', ["photo", "photo (1)", "my photo"]),  # CVAT
        ('photo 1\n"photo (1)" 1\n"my photo" -1', ["photo", "photo (1)", "my photo"]),
        ("photo\tx 1\nphoto", ["photo\tx", "photo"]),
        ("scan 1\nphoto", ["scan 1", "photo"]),  # the name of an image, no flag
        ("scan 1 1\nphoto  1\nscan 0 -1", ["scan 1", "photo", "scan 0"]),
    ],
)
def test_a_name_is_the_line_less_a_flag(lines: str, expected: list[str], tmp_path: Path) -> None:
    files = ["photo.png", "photo (1).png", "my photo.png", "photo\tx.png", "scan 1.png", "scan 0.png", "v.png"]
    devkit(tmp_path, *files, sets={"train": lines, "val": "v"})
    assert names_in(opened(tmp_path), "train") == expected


def test_where_not_every_line_has_a_flag_none_has(tmp_path: Path) -> None:
    files = ["scan.png", "scan 1.png", "scan 0.png", "v.png"]
    devkit(tmp_path, *files, sets={"train": "scan\nscan 1\nscan 0", "val": "v"})
    assert names_in(opened(tmp_path), "train") == ["scan", "scan 1", "scan 0"]


def test_a_line_that_means_two_images_is_refused(tmp_path: Path) -> None:
    devkit(tmp_path, "scan.png", "scan 1.png", "v.png", sets={"train": "scan 1", "val": "v"})
    with pytest.raises(
        DataError, match=r"train\.txt:1: 'scan 1' may be .* or 'scan' with a flag; put the name in double"
    ):
        opened(tmp_path)
    (tmp_path / "ImageSets/Main/train.txt").write_text('"scan 1"')
    assert names_in(opened(tmp_path), "train") == ["scan 1"]


def test_of_two_files_of_one_name_the_annotation_or_the_list_chooses(tmp_path: Path) -> None:
    devkit(tmp_path, "a.jpg", "b.jpg", sets={"train": "a", "val": "b"})
    picture(tmp_path / "JPEGImages/a.png")
    assert opened(tmp_path).open("train").items[0].path.name == "a.jpg"  # in <filename>
    (tmp_path / "Annotations/a.xml").write_text(annotation([("cat", BOX)]))
    with pytest.raises(DataError, match=r"a\.xml: may annotate a\.jpg or a\.png; name it in <filename>"):
        opened(tmp_path)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a.png")
    assert opened(tmp_path).open("train").items[0].path.name == "a.png"


def test_cvat_lists_all_images_in_default(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    devkit(tmp_path, *(f"{n}.png" for n in MANY), sets={"default": "\n".join(MANY), "cat_default": "00 1\n01 -1"})
    data = opened(tmp_path)
    train, val = names_in(data, "train"), names_in(data, "val")
    assert sorted(train + val) == MANY
    assert 2 <= len(val) <= 12
    assert names_in(data, "test") == val
    assert f"nothing parts the images, so {len(val)} of 30 are validated on" in caplog.text
    assert "scores will flatter" not in caplog.text
    more = [*MANY, *(f"new{n}" for n in range(30))]
    devkit(tmp_path, *(f"{n}.png" for n in more), sets={"default": "\n".join(more)})
    assert set(names_in(data, "val")) & set(MANY) == set(val)  # nothing moves


@pytest.mark.parametrize("share", [0, 1, -0.5])
def test_a_share_that_leaves_nothing_is_refused(share: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"val_share must be in \(0, 1\)"):
        opened(tmp_path, val_share=share)


def test_a_set_that_somebody_named_is_not_dealt_out(tmp_path: Path) -> None:
    devkit(tmp_path, *(f"{n}.png" for n in MANY), sets={"default": "\n".join(MANY)})
    with pytest.raises(DataError, match=r"val\.txt: no such image set; there are: default; name .* --data\.val_set"):
        opened(tmp_path, train_set="default")
    with pytest.raises(DataError, match=r"mine\.txt: no such image set; there are: default"):
        opened(tmp_path, train_set="mine")


def test_a_lone_training_set_is_not_validated_on(tmp_path: Path) -> None:
    devkit(tmp_path, *(f"{n}.png" for n in MANY), sets={"train": "\n".join(MANY)})
    with pytest.raises(DataError, match=r"val\.txt: no such image set; there are: train"):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["valid", "validation", "Validation", "Val"])
def test_image_sets_for_validation_have_several_names(name: str, tmp_path: Path) -> None:
    devkit(tmp_path, "a.png", "b.png", sets={"Train": "a", name: "b"})
    data = opened(tmp_path)
    assert (names_in(data, "train"), names_in(data, "val")) == (["a"], ["b"])


def test_vott_has_sets_of_single_classes_only(tmp_path: Path) -> None:
    sets = {
        "cat_train": "a.jpg 1\nb.jpg -1",
        "dog_train": "a.jpg -1\nb.jpg 1",
        "cat_val": "c.jpg 1",
        "dog_val": "c.jpg -1",
    }
    devkit(tmp_path, "a.jpg", "b.jpg", "c.jpg", sets=sets)
    data = opened(tmp_path)
    assert (names_in(data, "train"), names_in(data, "val")) == (["a", "b"], ["c"])


@pytest.mark.parametrize("val", ["valid", "val", "validation"])
@pytest.mark.parametrize("inner", [("", ""), ("JPEGImages", "Annotations"), ("images", "annotations")])
def test_roboflow_has_a_folder_for_each_split(val: str, inner: tuple[str, str], tmp_path: Path) -> None:
    for split, name in (("train", "a"), (val, "b"), ("test", "c")):
        folder = tmp_path / split
        annotated(folder / inner[0], f"{name}_jpg.rf.0f3.jpg", annotations=folder / inner[1])
    data = opened(tmp_path)
    found = [names_in(data, split) for split in ("train", "val", "test")]
    assert found == [["a_jpg.rf.0f3"], ["b_jpg.rf.0f3"], ["c_jpg.rf.0f3"]]
    assert names_in(opened(tmp_path, test_set="val"), "test") == ["b_jpg.rf.0f3"]


def test_splits_may_be_folders_of_images_and_of_annotations(tmp_path: Path) -> None:
    for split, name in (("train", "a.png"), ("val", "b.png")):
        annotated(tmp_path / "images" / split, name, annotations=tmp_path / "annotations" / split)
    data = opened(tmp_path)
    assert [names_in(data, split) for split in ("train", "val", "test")] == [["a"], ["b"], ["b"]]


def test_a_missing_folder_for_validation_says_what_would_do(tmp_path: Path) -> None:
    annotated(tmp_path / "train", "a.png")
    annotated(tmp_path / "test", "c.png")
    with pytest.raises(
        DataError,
        match=r"no annotated images in val/ or valid/ or validation/; .*--data\.val_set.* found test/, train/",
    ):
        opened(tmp_path)
    assert names_in(opened(tmp_path, val_set="test"), "val") == ["c"]


@pytest.mark.parametrize("folders", [("", ""), ("JPEGImages", "Annotations"), ("Images", "annotations")])
def test_labelimg_and_labelme_have_no_image_sets(
    folders: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    annotated(tmp_path / folders[0], *(f"{n}.JPG" for n in MANY), annotations=tmp_path / folders[1])
    picture(tmp_path / folders[0] / "nobody looked.png")
    data = opened(tmp_path)
    train, val = names_in(data, "train"), names_in(data, "val")
    assert sorted(train + val) == MANY
    assert val
    assert "left out 1 images without annotation, such as nobody looked" in caplog.text
    with pytest.raises(DataError, match=r"has no image sets, so none is called first; leave --data\.train_set"):
        opened(tmp_path, train_set="first")


def test_an_annotation_of_another_name_is_of_the_image_that_it_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    annotated(tmp_path, *(f"{n}.jpg" for n in MANY))
    for name in MANY:
        (tmp_path / f"{name}.xml").rename(tmp_path / f"label {name}.xml")
        text = (tmp_path / f"label {name}.xml").read_text()
        (tmp_path / f"label {name}.xml").write_text(text.replace("<filename>", "<filename>C:\\photos\\"))
    items = opened(tmp_path).open("train").items
    assert all(item.name == f"label {item.path.stem}" for item in items)
    assert "without annotation" not in caplog.text


def test_an_annotation_that_names_another_image_that_is_there_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    devkit(tmp_path, "a.jpg", "b.jpg", sets={"train": "a", "val": "b"})
    (tmp_path / "Annotations/a.xml").write_text(annotation([("cat", BOX)], filename="b.jpg"))
    assert opened(tmp_path).open("train").items[0].path.name == "a.jpg"
    assert "1 annotations name another image in <filename>" in caplog.text
    assert "(a.jpg, not b.jpg)" in caplog.text


def test_a_filename_reaches_no_other_folder(tmp_path: Path) -> None:
    root = devkit(tmp_path / "data", "a.jpg", "b.jpg", sets={"train": "a", "val": "b"})
    (root / "JPEGImages/a.jpg").rename(tmp_path / "secret.jpg")
    (root / "Annotations/a.xml").write_text(annotation([("cat", BOX)], filename="../../secret.jpg"))
    with pytest.raises(
        DataError, match=r"JPEGImages/a: no image of that name; .*a\.xml annotates it; expected .*\.jpg"
    ):
        opened(root)


def test_names_may_lie_in_folders(tmp_path: Path) -> None:
    devkit(tmp_path, "day/a.png", "night/a.png", sets={"train": "day/a.png 1", "val": "night/a"})
    data = opened(tmp_path)
    assert (names_in(data, "train"), names_in(data, "val")) == (["day/a"], ["night/a"])


def test_what_mac_archives_leave_is_no_data(tmp_path: Path) -> None:
    annotated(tmp_path / "train", "a.png")
    annotated(tmp_path / "valid", "b.png")
    for name in ("train/._a.xml", "train/._a.png", "__MACOSX/train/._a.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    assert names_in(opened(tmp_path), "train") == ["a"]


def test_a_folder_that_is_none_of_these_says_what_was_found(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.PNG")
    (tmp_path / "labels.csv").write_text("x")
    with pytest.raises(
        DataError, match=r"no VOC data here; expected .* train/ and val/ of such.*; found 2 \.png, 1 \.csv"
    ):
        opened(tmp_path)
