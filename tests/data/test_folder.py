import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agcam.data import ImageFolderDataModule
from agcam.errors import DataError, InputError


def fill(folder: Path, numbers: Iterable[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(np.full((12, 16, 3), number, np.uint8)).save(folder / f"{number:03d}.jpg")


@pytest.fixture
def split_root(tmp_path: Path) -> Path:
    fill(tmp_path / "birds/train/tui", range(3))
    fill(tmp_path / "birds/train/kea", range(4))
    fill(tmp_path / "birds/train/robin", range(2))
    fill(tmp_path / "birds/val/robin", range(1))
    fill(tmp_path / "birds/val/tui", range(2))
    return tmp_path / "birds"


@pytest.fixture
def plain_root(tmp_path: Path) -> Path:
    fill(tmp_path / "birds/tui", range(12))
    fill(tmp_path / "birds/kea", range(12))
    return tmp_path / "birds"


def opened(root: Path, **options: object) -> ImageFolderDataModule:
    data = ImageFolderDataModule(root=str(root), batch_size=2, num_workers=0, image_size=16, **options)
    data.setup("fit")
    return data


def names(data: ImageFolderDataModule, split: str) -> set[str]:
    return {item.name for item in data.open(split).items}


def test_classes_are_the_sorted_training_folders_in_every_split(split_root: Path) -> None:
    data = opened(split_root)
    assert data.class_names == ["kea", "robin", "tui"]
    assert {i.name: i.labels for i in data.open("val").items} == {
        "robin/000.jpg": (1,),
        "tui/000.jpg": (2,),
        "tui/001.jpg": (2,),
    }


def test_the_test_split_is_its_own_folder_or_the_validation_split(split_root: Path) -> None:
    assert len(opened(split_root).open("test")) == 3
    fill(split_root / "test/kea", range(5))
    assert names(opened(split_root), "test") == {f"kea/{n:03d}.jpg" for n in range(5)}


@pytest.mark.parametrize("name", ["valid", "validation", "Val", "Validation"])
def test_the_validation_folder_has_several_names(name: str, split_root: Path) -> None:
    expected = names(opened(split_root), "val")
    (split_root / "val").rename(split_root / name)
    data = opened(split_root)
    assert names(data, "val") == names(data, "test") == expected
    assert data.class_names == ["kea", "robin", "tui"]


def test_two_folders_that_may_be_the_validation_set_are_refused(split_root: Path) -> None:
    (split_root / "val").rename(split_root / "valid")
    shutil.copytree(split_root / "valid", split_root / "validation")
    with pytest.raises(DataError, match="valid and validation may both be the val set; keep one"):
        opened(split_root)


def test_valid_may_be_a_class(tmp_path: Path) -> None:
    fill(tmp_path / "valid/2024", range(9))
    fill(tmp_path / "invalid/2024", range(9))
    data = opened(tmp_path)
    assert data.class_names == ["invalid", "valid"]
    assert len(data.open("train")) + len(data.open("val")) == 18


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_that_training_does_not_know_is_named(split_root: Path, split: str) -> None:
    fill(split_root / split / "moa", range(1))
    with pytest.raises(DataError, match=rf"{split}/moa: no such class in .*train; expected one of kea, robin, tui"):
        opened(split_root).open(split)


def test_class_folders_alone_are_split_without_overlap(plain_root: Path) -> None:
    data = opened(plain_root)
    train, val = names(data, "train"), names(data, "val")
    assert train | val == {f"{bird}/{n:03d}.jpg" for bird in ("kea", "tui") for n in range(12)}
    assert not train & val
    kea, tui = (1, 3, 6, 8), (4, 7, 10)  # below a fifth of 2³² begin, by sha256sum, the digests of these paths
    assert val == {*(f"kea/{n:03d}.jpg" for n in kea), *(f"tui/{n:03d}.jpg" for n in tui)}
    assert names(data, "test") == val


def test_adding_images_moves_no_other(plain_root: Path) -> None:
    train, val = names(opened(plain_root), "train"), names(opened(plain_root), "val")
    fill(plain_root / "kea", range(100, 130))
    fill(plain_root / "albatross", range(5))
    grown = opened(plain_root)
    assert train < names(grown, "train")
    assert val < names(grown, "val")


def test_the_split_does_not_depend_on_where_the_data_lie(plain_root: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(plain_root, tmp_path / "elsewhere"))
    assert names(opened(elsewhere), "val") == names(opened(plain_root), "val")


def test_val_share_is_the_share_of_images_that_validate(plain_root: Path) -> None:
    fill(plain_root / "kea", range(250))
    assert 100 <= len(names(opened(plain_root, val_share=0.5), "val")) <= 162
    with pytest.raises(InputError, match=r"val_share must be in \(0, 1\), found 1"):
        opened(plain_root, val_share=1)


def test_every_class_keeps_an_image_to_train_on(plain_root: Path) -> None:
    train = opened(plain_root, val_share=0.999).open("train")
    assert sorted(item.labels for item in train.items) == [(0,), (1,)]


def test_a_share_that_leaves_nothing_to_validate_on_is_named(plain_root: Path) -> None:
    with pytest.raises(DataError, match=r"no image to validate on; --data\.val_share 0\.001 leaves none"):
        opened(plain_root, val_share=0.001)


def test_images_may_lie_deeper_and_other_files_are_passed_over(plain_root: Path) -> None:
    fill(plain_root / "kea/2026/spring", [40])
    (plain_root / "kea/notes.txt").write_text("seen at dusk")
    (plain_root / ".thumbnails").mkdir()
    data = opened(plain_root)
    everything = names(data, "train") | names(data, "val")
    assert len(everything) == 25
    assert "kea/2026/spring/040.jpg" in everything


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    fill(tmp_path / "train", range(6))
    fill(tmp_path / "bus", range(6))
    assert opened(tmp_path, val_share=0.5).class_names == ["bus", "train"]


def test_an_unreadable_image_is_named_and_can_be_left_out(split_root: Path) -> None:
    (split_root / "train/kea/001.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"kea/001\.jpg: not a readable image.*--data\.on_error skip"):
        opened(split_root)
    assert len(opened(split_root, on_error="skip").open("train")) == 8


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (shutil.rmtree, "birds: no such folder; expected train/ and val/"),
        (lambda r: shutil.rmtree(r / "val"), "val: no such folder; add it, or put the class folders into"),
        (lambda r: shutil.rmtree(r / "train"), "train: no such folder"),
        (lambda r: [p.unlink() for p in (r / "train/kea").iterdir()], "train/kea: no image in this class folder"),
        (
            lambda r: [p.unlink() for p in r.glob("val/*/*")],
            "val: no image to validate on; expected a folder per class",
        ),
        (lambda r: [shutil.rmtree(r / "train" / n) for n in ("tui", "robin")], "two or more classes, found only kea/"),
    ],
)
def test_what_is_missing_is_named(split_root: Path, spoil: object, said: str) -> None:
    spoil(split_root)
    with pytest.raises(DataError, match=said):
        opened(split_root)


def test_loose_photographs_are_no_data_set(tmp_path: Path) -> None:
    fill(tmp_path / "photos", range(3))
    with pytest.raises(DataError, match="photos: expected a folder for each of two or more classes, found none"):
        opened(tmp_path / "photos")


def test_batches_hold_labels_and_no_boxes(split_root: Path) -> None:
    data = opened(split_root)
    assert next(iter(data.train_dataloader())).image.shape == (2, 3, 16, 16)
    batch = next(iter(data.val_dataloader()))
    assert batch.label.tolist() == [1, 2]
    assert batch.boxes == [None, None]
    assert batch.mask is None
