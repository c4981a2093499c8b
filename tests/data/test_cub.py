import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agcam.data import CUB200
from agcam.data.cub import read_cub
from agcam.data.shapes import ShapesDataset
from agcam.errors import DataError


@pytest.fixture
def tree(cub_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cub_root, tmp_path / "CUB_200_2011"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def opened(root: Path, **options: object) -> CUB200:
    data = CUB200(root=str(root), batch_size=4, num_workers=0, image_size=48, **options)
    data.setup("fit")
    return data


def test_written_tree_reads_back_as_it_was_drawn(cub_root: Path) -> None:
    source, drawn = opened(cub_root).open("train"), ShapesDataset(24, 48, "train")
    assert len(source) == len(drawn)
    for index in range(len(drawn)):
        read, truth = source[index], drawn[index]
        assert source.class_names[read.labels[0]] == drawn.class_names[truth.labels[0]]
        assert np.array_equal(read.mask > 0, truth.mask > 0)
        assert np.array_equal(np.unique(read.mask[read.mask > 0]), [read.labels[0] + 1])
        ys, xs = np.nonzero(truth.mask)
        assert read.boxes.tolist() == [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]


def test_splits_are_the_official_ones(cub_root: Path) -> None:
    train, _ = read_cub(cub_root, train=True)
    test, _ = read_cub(cub_root, train=False)
    assert (len(train), len(test)) == (24, 13)
    assert not {i.name for i in train} & {i.name for i in test}


def test_parent_of_the_data_set_works_as_root(cub_root: Path) -> None:
    assert len(opened(cub_root.parent).open("val")) == 13


def test_ids_need_not_be_contiguous(tree: Path) -> None:
    names = {line.split()[0]: line.split()[1] for line in (tree / "classes.txt").read_text().splitlines()}
    (tree / "classes.txt").write_text("".join(f"{int(i) * 10} {name}\n" for i, name in names.items()))
    labels = [line.split() for line in (tree / "image_class_labels.txt").read_text().splitlines()]
    (tree / "image_class_labels.txt").write_text("".join(f"{i} {int(c) * 10}\n" for i, c in labels))
    items, class_names = read_cub(tree, train=True)
    assert max(i.labels[0] for i in items) < len(class_names) == 8


def test_boxes_are_clipped_to_the_image(tree: Path) -> None:
    first = (tree / "bounding_boxes.txt").read_text().splitlines()[0]
    edit(tree / "bounding_boxes.txt", first, "1 40 40 100 100")
    assert opened(tree).open("train").items[0].boxes.tolist() == [[40, 40, 48, 48]]


def test_without_segmentations_the_mask_is_none(tree: Path) -> None:
    shutil.rmtree(tree / "segmentations")
    data = opened(tree)
    assert data.open("train")[0].mask is None
    assert next(iter(data.val_dataloader())).mask is None


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("images.txt", "2 0", "2", "images.txt:2.*expected an id and 1 value"),
        ("image_class_labels.txt", "3 ", "99 ", "image_class_labels.txt: no line for image 3"),
        ("bounding_boxes.txt", "1 ", "1 x", "bounding_boxes.txt.*image 1.*expected four numbers: x y width height"),
        ("train_test_split.txt", "1 1", "1 7", "train_test_split.txt: image 1 has '7'"),
        (
            "classes.txt",
            "1 001",
            "77 001",
            "image_class_labels.txt: image .* has class '1', which classes.txt does not list",
        ),
        ("images.txt", "2 0", "1 0", "id 1 appears twice"),
    ],
)
def test_a_wrong_line_is_named(tree: Path, file: str, old: str, new: str, said: str) -> None:
    if file == "images.txt" and new == "2":
        lines = (tree / file).read_text().splitlines()
        old, new = lines[1], "2"
    edit(tree / file, old, new)
    with pytest.raises(DataError, match=said):
        opened(tree)


@pytest.mark.parametrize(
    "file", ["classes.txt", "image_class_labels.txt", "bounding_boxes.txt", "train_test_split.txt"]
)
def test_a_missing_file_is_named(tree: Path, file: str) -> None:
    (tree / file).unlink()
    with pytest.raises(DataError, match=f"{file}: no such file"):
        opened(tree)


def test_a_missing_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no CUB-200-2011 here; expected images\.txt.*--data\.download"):
        opened(tmp_path / "nowhere")


def first_image(tree: Path) -> Path:
    return tree / "images" / (tree / "images.txt").read_text().splitlines()[0].split()[1]


def test_an_absent_image_stops_before_training(tree: Path) -> None:
    first_image(tree).unlink()
    with pytest.raises(DataError, match=r"\.jpg: no such image.*--data\.on_error skip"):
        opened(tree)


@pytest.mark.parametrize("keep", [0, 300])
def test_a_truncated_image_is_left_out_when_asked(tree: Path, keep: int) -> None:
    path = first_image(tree)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=path.name):
        opened(tree)
    assert len(opened(tree, on_error="skip").open("train")) == 23


def test_a_mask_of_another_size_is_named(tree: Path) -> None:
    mask = tree / "segmentations" / first_image(tree).relative_to(tree / "images").with_suffix(".png")
    Image.fromarray(np.zeros((10, 12), np.uint8)).save(mask)
    with pytest.raises(DataError, match=r"\.png: the mask is 12×10, its image .* is 48×48"):
        opened(tree)


def test_a_box_outside_the_image_is_named_and_can_be_left_out(tree: Path) -> None:
    first = (tree / "bounding_boxes.txt").read_text().splitlines()[0]
    edit(tree / "bounding_boxes.txt", first, "1 500 500 10 10")
    with pytest.raises(DataError, match=r"bounding_boxes.txt: box \(500.0, 500.0, 510.0, 510.0\).*48×48"):
        opened(tree)
    source = opened(tree, on_error="skip").open("train")
    assert len(source) == 24
    assert len(source[0].boxes) == 0
