import shutil
from pathlib import Path

import numpy as np
import pytest

from agcam.data import VOC2012
from agcam.data.shapes import CLASSES, ShapesDataset
from agcam.errors import DataError


def opened(root: Path, **options: object) -> VOC2012:
    data = VOC2012(root=str(root), classes=CLASSES, batch_size=4, num_workers=0, image_size=48, **options)
    data.setup("fit")
    return data


@pytest.fixture
def tree(voc_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(voc_root, tmp_path / "VOC2012"))


def annotation(tree: Path) -> Path:
    name = (tree / "ImageSets/Main/train.txt").read_text().split()[0]
    return tree / "Annotations" / f"{name}.xml"


def test_written_tree_reads_back_as_it_was_drawn(voc_root: Path) -> None:
    source, drawn = opened(voc_root).open("train"), ShapesDataset(16, 48, "train", multilabel=True)
    for index in range(len(drawn)):
        read, truth = source[index], drawn[index]
        assert read.labels == truth.labels
        assert np.array_equal(read.boxes, truth.boxes)
        assert np.array_equal(read.box_labels, truth.box_labels)
        assert np.array_equal(read.mask, truth.mask)


def test_labels_are_multi_hot(voc_root: Path) -> None:
    batch = next(iter(opened(voc_root).val_dataloader()))
    truth = ShapesDataset(9, 48, "val", multilabel=True)
    assert batch.label.shape == (4, 8)
    assert [tuple(p.tolist()) for p in batch.present()] == [truth[i].labels for i in range(4)]


def test_difficult_objects_count_only_when_asked(tree: Path) -> None:
    path = annotation(tree)
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    assert len(opened(tree).open("train")[0].boxes) == 0
    assert opened(tree).open("train")[0].labels == ()
    assert len(opened(tree, difficult=True).open("train")[0].boxes) > 0


def test_an_empty_difficult_flag_means_not_difficult(tree: Path) -> None:
    path = annotation(tree)
    path.write_text(path.read_text().replace("<difficult>0</difficult>", "<difficult/>"))
    assert len(opened(tree).open("train")[0].boxes) > 0


def test_single_class_leaves_out_images_of_none_and_of_several(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn = [ShapesDataset(16, 48, "train", multilabel=True)[i] for i in range(16)]
    alone = [example.name for example in drawn if len(example.labels) == 1]
    assert 1 < len(alone) < 15
    path = tree / "Annotations" / f"{alone.pop(0)}.xml"
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    source = opened(tree, single_class=True).open("train")
    assert [item.name for item in source.items] == alone
    assert source.multilabel
    assert f"train: left out {16 - len(alone)} of 16 images that do not show exactly one class" in caplog.text


def test_single_class_still_names_a_wrong_annotation(tree: Path) -> None:
    path = annotation(tree)
    path.write_text("<annotation>")
    with pytest.raises(DataError, match=f"{path.name}: not a readable XML file"):
        opened(tree, single_class=True)


def test_an_image_set_that_single_class_leaves_empty_is_named(tree: Path) -> None:
    drawn = [ShapesDataset(16, 48, "train", multilabel=True)[i] for i in range(16)]
    several = [example.name for example in drawn if len(example.labels) > 1]
    (tree / "ImageSets/Main/train.txt").write_text("\n".join(several))
    with pytest.raises(DataError, match=r"train: no image shows exactly one class; leave --data\.single_class out"):
        opened(tree, single_class=True)


def test_float_coordinates_are_kept(tree: Path) -> None:
    path = annotation(tree)
    head, rest = path.read_text().split("<xmin>", 1)
    path.write_text(f"{head}<xmin>3.25{rest[rest.index('</xmin>') :]}")
    assert opened(tree).open("train")[0].boxes[0, 0] == 2.25


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t[:100], "not a readable XML file"),
        (lambda t: t.replace("name>", "label>"), "unknown class ''; expected one of circle, square.*--data.classes"),
        (lambda t: t.replace("<xmax>", "<xmax>wide"), "xmax of a .* is 'wide.*expected a number"),
        (lambda t: t.replace("<bndbox>", "<box>").replace("</bndbox>", "</box>"), "xmin of a .* is None"),
    ],
)
def test_a_wrong_annotation_is_named_and_can_be_left_out(tree: Path, change: object, said: str) -> None:
    path = annotation(tree)
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=f"{path.name}: {said}"):
        opened(tree)
    assert len(opened(tree, on_error="skip").open("train")) == 15


def test_entity_bombs_are_refused(tree: Path) -> None:
    path = annotation(tree)
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    path.write_text(f'<!DOCTYPE a [<!ENTITY e0 "boom">{entities}]><annotation>&e11;</annotation>')
    with pytest.raises(DataError, match=f"{path.name}: not a readable XML file"):
        opened(tree)


def test_a_missing_image_set_lists_those_that_exist(voc_root: Path) -> None:
    with pytest.raises(DataError, match=r"trainval\.txt: no such image set; there are: train, val"):
        opened(voc_root, train_set="trainval")


def test_an_image_set_of_another_folder_can_be_named(voc_root: Path) -> None:
    assert len(opened(voc_root, train_set="Segmentation/train").open("train")) == 16


def test_a_missing_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nowhere: no VOC data here; expected Annotations/, ImageSets/ and JPEGImages/"
    ):
        opened(tmp_path / "nowhere")


def test_a_mask_value_beyond_the_classes_is_named(tree: Path) -> None:
    source = VOC2012(root=str(tree), classes=CLASSES, image_size=48).open("train")
    source.class_names = source.class_names[:1]
    with pytest.raises(DataError, match=r"SegmentationClass.*mask value \d, expected 0 … 1 or 255"):
        [source[i] for i in range(16)]


def test_images_without_mask_are_all_ignored_in_a_batch_with_masks(tree: Path) -> None:
    name = (tree / "ImageSets/Main/val.txt").read_text().split()[0]
    (tree / "SegmentationClass" / f"{name}.png").unlink()
    batch = next(iter(opened(tree).val_dataloader()))
    assert bool((batch.mask[0] == 255).all())
    assert bool((batch.mask[1] != 255).all())
