"""Which files of a folder are images, behind links too, and what is said of the others."""

import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agcam.data import ImageFolderDataModule
from agcam.data.find_photographs import find_images
from agcam.errors import DataError
from agcam.io.image_files import find_image_files, say_left_out
from agcam.io.images import check_image, read_image


def picture(path: Path, kind: str = "JPEG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((12, 16, 3), 90, np.uint8)).save(path, kind)
    return path


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_image_files(folder).paths]


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG", ".pjpeg", ".mpo", ".heic", ".dat", ".jpg_large", ""])
def test_a_jpeg_is_one_whatever_its_suffix(suffix: str, tmp_path: Path) -> None:
    path = picture(tmp_path / f"x{suffix}")
    assert find_image_files(tmp_path).paths == [path]
    assert check_image(path) == (16, 12, 1)
    assert read_image(path).mean() == pytest.approx(90, abs=2)


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", ""), ("GIF", ".bin"), ("WEBP", ".image"), ("AVIF", ".avif")])
def test_other_kinds_are_found_and_read(kind: str, suffix: str, tmp_path: Path) -> None:
    path = picture(tmp_path / f"x{suffix}", kind)
    assert find_image_files(tmp_path).paths == [path]
    assert check_image(path)[:2] == (16, 12)
    assert read_image(path).mean() == pytest.approx(90, abs=3)


def test_what_is_no_image_is_counted_by_kind(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    for name in ("1.heic", "2.HEIC", "notes.txt", "raw.nef", "a name. with what is no suffix", "LICENSE"):
        (tmp_path / name).write_bytes(b"II*\0 as TIFF and cameras' raw files begin")
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for ever
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = find_image_files(tmp_path)
    assert [path.name for path in found.paths] == ["a.jpg"]
    assert found.left_out == Counter(
        {".heic": 2, "other file": 2, ".txt": 1, ".nef": 1, "special file": 1, "broken link": 1}
    )
    assert say_left_out(found.left_out) == (
        "left out 8 files: 2 .heic (cannot be read: convert to JPEG), 2 other files, 1 .nef (cannot be read: convert "
        "to JPEG), 1 .txt, 1 broken link (leads nowhere), 1 special file (a device or pipe)"
    )


def test_many_kinds_are_cut_short() -> None:
    said = say_left_out(Counter({f".{n}": 30 - n for n in range(20)}))
    assert said.startswith("left out 410 files: 30 .0, 29 .1, ")
    assert said.endswith("23 .7 and 12 more kinds")


def test_what_systems_leave_behind_is_not_counted(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "__MACOSX/a.jpg")
    picture(tmp_path / "@eaDir/a.jpg")
    picture(tmp_path / ".thumbnails/a.jpg")
    for name in (".DS_Store", "._a.jpg", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).write_bytes(b"\xff\xd8\xff")
    found = find_image_files(tmp_path)
    assert ([path.name for path in found.paths], found.left_out.total()) == (["a.jpg"], 0)


def test_linked_folders_are_followed_and_each_is_visited_once(tmp_path: Path) -> None:
    kea, store = tmp_path / "birds/kea", tmp_path / "store"
    picture(kea / "here.jpg")
    picture(kea / "z/deep.jpg")
    picture(store / "one.jpg")
    picture(store / "further/two.jpg")
    (kea / "a").symlink_to(kea / "z")  # its own name comes first
    (kea / "more").symlink_to(store)
    (kea / "more2").symlink_to(store)
    (store / "further/again").symlink_to(store)
    (kea / "linked.jpg").symlink_to(store / "one.jpg")
    found = find_image_files(kea)
    assert names(kea) == ["here.jpg", "linked.jpg", "more/further/two.jpg", "more/one.jpg", "z/deep.jpg"]
    assert not found.left_out
    (tmp_path / "linked").symlink_to(kea)  # the folder itself may be a link
    assert len(find_image_files(tmp_path / "linked").paths) == 5


@pytest.mark.parametrize("up", ["..", ".", "../.."])
def test_a_link_to_a_folder_around_it_brings_no_other_class_in(up: str, tmp_path: Path) -> None:
    picture(tmp_path / "birds/kea/1.jpg")
    picture(tmp_path / "birds/tui/2.jpg")
    (tmp_path / "birds/kea/loop").symlink_to(up)
    found = find_image_files(tmp_path / "birds/kea")
    assert [path.name for path in found.paths] == ["1.jpg"]
    assert say_left_out(found.left_out) == "left out 1 file: 1 looping link (leads to a folder around it)"


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    picture(tmp_path / "a.jpg")
    scan = os.scandir

    def refuse(path: Path) -> object:  # a superuser, as in CI, may read all
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"locked: cannot be read .*Permission denied"):
        find_image_files(tmp_path)


def test_a_training_folder_says_once_what_it_leaves_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("kea", "tui"):
        for number in range(6):
            picture(tmp_path / name / f"{number}.jfif")
        (tmp_path / name / "photo.heic").write_bytes(b"\0\0\0\x24ftypheic")
    picture(tmp_path / "__MACOSX/._kea")
    data = ImageFolderDataModule(root=str(tmp_path), batch_size=2, num_workers=0, image_size=16, val_share=0.5)
    with caplog.at_level(logging.WARNING):
        data.setup("fit")
    assert data.class_names == ["kea", "tui"]
    assert len(data.open("train")) + len(data.open("val")) == 12
    said = [r.message for r in caplog.records if "left out" in r.message]
    assert said == [f"{tmp_path}: left out 2 files: 2 .heic (cannot be read: convert to JPEG)"]


def test_a_class_of_nothing_but_heic_says_so(tmp_path: Path) -> None:
    picture(tmp_path / "kea/1.jpg")
    (tmp_path / "tui").mkdir()
    (tmp_path / "tui/1.heic").write_bytes(b"\0\0\0\x24ftypheic")
    with pytest.raises(DataError, match=r"tui: no image in this class folder; .*\(left out 1 file: 1 \.heic \(cannot"):
        ImageFolderDataModule(root=str(tmp_path)).open("train")


def test_photographs_to_explain_are_found_in_the_same_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture(tmp_path / "photos/a.jfif")
    picture(tmp_path / "elsewhere/b.jpe")
    (tmp_path / "photos/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/c.heic").write_bytes(b"\0\0\0\x24ftypheic")
    (tmp_path / "photos/loop").symlink_to(tmp_path)
    with caplog.at_level(logging.WARNING):
        found = find_images([tmp_path / "photos"])
    assert [path.name for path in found] == ["a.jfif", "b.jpe"]
    assert (
        f"{tmp_path / 'photos'}: left out 2 files: 1 .heic (cannot be read: convert to JPEG), 1 looping" in caplog.text
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/c.heic").write_bytes(b"\0")
    with pytest.raises(DataError, match=r"no image in .*empty; .*\(left out 1 file: 1 \.heic \(cannot be read"):
        find_images([tmp_path / "empty"])
