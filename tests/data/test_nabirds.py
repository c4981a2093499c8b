"""NABirds in its layout: UUIDs for images, and a tree of classes with gaps in its ids whose leaves have the images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agcam.data import CUB200
from agcam.data.cub import read_cub
from agcam.errors import DataError

CLASSES = {  # 0 is the root; a hawk's two leaves share their name
    0: "Birds",
    1: "Ducks, Geese, and Swans",
    22: "Hawks, Kites, Eagles, and Allies",
    172: "Northern Harrier (Adult male)",
    295: "Common Eider (Adult male)",
    817: "Oak Titmouse",
    1010: "Oak Titmouse",
}
PARENTS = {1: 0, 22: 0, 172: 22, 295: 1, 817: 0, 1010: 0}
IMAGES = {  # id, class, training
    "0000139e-21dc-4d0c-bfe1-4cae3c85c829": (817, 0),
    "0000d9fc-4e02-4c06-a0af-a55cfb16b12b": (295, 1),
    "00019306-9d83-4334-b255-a447742edce3": (1010, 1),
    "00000000-0000-0000-0000-000000000007": (172, 1),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "nabirds"
    tables: dict[str, list[str]] = {
        "classes": [f"{key} {name}" for key, name in CLASSES.items()],
        "hierarchy": [f"{child} {parent}" for child, parent in PARENTS.items()],
        "images": [],
        "image_class_labels": [],
        "bounding_boxes": [],
        "train_test_split": [],
        "sizes": [],
    }
    for number, (image, (label, train)) in enumerate(IMAGES.items()):
        path = f"{label:04d}/{image.replace('-', '')}.jpg"
        (root / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((30, 40, 3), 50 * number, np.uint8)).save(root / "images" / path)
        tables["images"].append(f"{image} {path}")
        tables["image_class_labels"].append(f"{image} {label}")
        tables["bounding_boxes"].append(f"{image} {number + 1} 2 10 12")
        tables["train_test_split"].append(f"{image} {train}")
        tables["sizes"].append(f"{image} 40 30")
    for name, lines in tables.items():
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def replace(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_leaves_of_the_tree_are_the_classes_and_ids_may_be_text(root: Path) -> None:
    items, names = read_cub(root, train=True)
    ducks, twins = ["Common Eider (Adult male)"], ["Oak Titmouse (817)", "Oak Titmouse (1010)"]
    assert names == ["Northern Harrier (Adult male)", *ducks, *twins]
    assert [(item.name[:5], item.labels) for item in items] == [("0295/", (1,)), ("1010/", (3,)), ("0172/", (0,))]
    assert [item.boxes.tolist() for item in items] == [[[n, 2, n + 10, 14]] for n in (2, 3, 4)]
    (tested,), _ = read_cub(root, train=False)
    assert tested.labels == (2,)


def test_the_parent_works_as_root_and_images_are_read(root: Path) -> None:
    data = CUB200(root=str(root.parent), batch_size=2, num_workers=0, image_size=16)
    data.setup("fit")
    assert len(data.open("train")) == 3
    (batch,) = data.val_dataloader()
    assert batch.label.tolist() == [2]
    assert batch.mask is None


def test_an_image_of_a_branch_makes_it_a_class(root: Path) -> None:
    replace(root / "image_class_labels.txt", "7 172", "7 22")
    items, names = read_cub(root, train=True)
    assert names[0] == "Hawks, Kites, Eagles, and Allies"
    assert len(names) == 5
    assert items[-1].labels == (0,)


def test_class_ids_may_be_words(root: Path) -> None:
    for name in ("classes", "hierarchy", "image_class_labels"):
        path = root / f"{name}.txt"
        path.write_text(path.read_text().replace("295", "coeider1"))
    items, names = read_cub(root, train=True)
    assert names[-1] == "Common Eider (Adult male)"
    assert items[0].labels == (3,)


def test_without_the_hierarchy_all_classes_stay(root: Path) -> None:
    (root / "hierarchy.txt").unlink()
    items, names = read_cub(root, train=True)
    assert len(names) == len(CLASSES)
    assert names[0] == "Birds"
    assert items[0].labels == (4,)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "bounding_boxes",
            "0000d9fc",
            "1111d9fc",
            r"boxes\.txt: no line for image 0000d9fc-4e02-4c06-a0af-a55",
        ),
        ("images", "0000d9fc-4e02-4c06-a0af-a55cfb16b12b", "$$", r"images\.txt:2: found .* expected an id and 1 value"),
        ("images", "0000d9fc-4e02-4c06-a0af-a55cfb16b12b", "x" * 65, r"images\.txt:2: found .* expected an id and 1"),
        ("image_class_labels", " 295", " 296", r"image 0000d9fc-\S+ has class '296', which classes\.txt does not list"),
        ("images", "00019306-9d83-4334-b255-a447742edce3", "0000139e-21dc-4d0c-bfe1-4cae3c85c829", r":3: id 0000139e-"),
    ],
)
def test_a_wrong_line_is_named(file: str, old: str, new: str, said: str, root: Path) -> None:
    replace(root / f"{file}.txt", old, new)
    with pytest.raises(DataError, match=said):
        read_cub(root, train=True)
