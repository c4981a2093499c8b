"""Training on some of the annotated classes."""

from pathlib import Path

import pytest

from agcam.errors import DataError
from voc_trees import annotation, devkit, opened

SHOWN = {"a": ["cat", "bird", "bird"], "b": ["bird"], "c": ["cat", "dog"], "d": []}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    devkit(tmp_path, *(f"{n}.jpg" for n in SHOWN), sets={"train": "\n".join(SHOWN), "val": "a\nc"})
    for name, labels in SHOWN.items():
        objects = [(label, (1 + n, 1, 9 + n, 9)) for n, label in enumerate(labels)]
        (tmp_path / f"Annotations/{name}.xml").write_text(annotation(objects))
    return tmp_path


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_objects_of_other_classes_are_left_out_and_counted(
    on_error: str, tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = opened(tree, ["cat"], on_error=on_error).open("train").items
    assert [(item.name, item.labels, item.boxes.tolist()) for item in items] == [
        ("a", (0,), [[0, 0, 9, 9]]),
        ("b", (), []),
        ("c", (0,), [[0, 0, 9, 9]]),
        ("d", (), []),
    ]
    assert "left out 4 objects of 2 classes that --data.classes does not name: 'bird' 3, 'dog' 1; " in caplog.text
    assert "1 of 4 images show none of the classes and stay, as negatives" in caplog.text


def test_an_image_of_other_classes_only_is_a_negative_in_batches(tree: Path) -> None:
    data = opened(tree, ["cat", "dog"], batch_size=4)
    data._sources["val"] = data.open("train")
    (batch,) = data.val_dataloader()
    assert batch.label.tolist() == [[1, 0], [0, 0], [1, 1], [0, 0]]


def test_all_classes_leave_nothing_out(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert opened(tree, ["dog", "cat", "bird"]).open("train").items[0].labels == (1, 2)
    assert "left out" not in caplog.text


@pytest.mark.parametrize(
    ("classes", "found", "meant"),
    [(["cat", "birds"], "birds", "bird"), (["Cat"], "Cat", "cat"), (["cat", "Dog "], "Dog ", "dog")],
)
def test_a_misspelt_class_is_refused_naming_the_one_that_is_meant(
    classes: list[str], found: str, meant: str, tree: Path
) -> None:
    with pytest.raises(DataError, match=f"no annotation has the class '{found}' of --data.classes; is '{meant}' meant"):
        opened(tree, classes)
    with pytest.raises(DataError, match=f"'{found}'.*is '{meant}' meant"):
        opened(tree, classes, on_error="skip")


def test_a_class_that_only_another_set_shows_is_no_misspelling(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tree / "Annotations/d.xml").write_text(annotation([("birds", (1, 1, 9, 9))]))
    data = opened(tree, ["cat", "birds"])  # the validation set has bird, and no birds
    assert len(data.open("val")) == 2
    assert "no annotation has" not in caplog.text


def test_a_class_that_is_nowhere_is_said_with_the_nearest_first(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(tree, ["cat", "dig"])
    assert "no annotation has the class 'dig'; others are dog, bird" in caplog.text


def test_classes_that_are_all_nowhere_are_refused(tree: Path) -> None:
    with pytest.raises(DataError, match=r"no annotation has a class of --data\.classes; found bird, cat, dog"):
        opened(tree, ["zebra", "lynx"])


def test_a_misspelt_annotation_is_pointed_out(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tree / "Annotations/d.xml").write_text(annotation([("birdd", (1, 1, 9, 9))]))
    opened(tree, ["cat", "bird", "dog"])
    assert (
        "left out 1 objects of 1 classes that --data.classes does not name: 'birdd' 1 (is 'bird' meant?)" in caplog.text
    )


def test_vocs_own_classes_are_not_a_choice(tree: Path) -> None:
    (tree / "Annotations/d.xml").write_text(annotation([("helmet", (1, 1, 9, 9))]))
    with pytest.raises(DataError, match=r"d\.xml: unknown class 'helmet'; expected one of aeroplane"):
        opened(tree, None)


def test_single_class_counts_chosen_classes_only(tree: Path) -> None:
    data = opened(tree, ["cat", "bird", "dog"], single_class=True, val_set="train")
    assert [item.name for item in data.open("train").items] == ["b"]
    data = opened(tree, ["cat", "bird"], single_class=True, val_set="train")
    assert [item.name for item in data.open("train").items] == ["b", "c"]
