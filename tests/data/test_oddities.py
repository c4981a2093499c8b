"""What real data sets hold that nobody expects: each is read as people see it, or refused with its file and place."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agcam.data import CUB200, VOC2012, ImageFolderDataModule
from agcam.data.find_photographs import find_images
from agcam.data.shapes import CLASSES
from agcam.errors import DataError
from agcam.io.images import check_image, read_image, turn_upright

CUB_FILES = ["images.txt", "classes.txt", "image_class_labels.txt", "bounding_boxes.txt", "train_test_split.txt"]


@pytest.fixture
def cub(cub_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cub_root, tmp_path / "CUB_200_2011"))


@pytest.fixture
def voc(voc_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(voc_root, tmp_path / "VOC2012"))


def cub_data(root: Path, **options: object) -> CUB200:
    data = CUB200(root=str(root), batch_size=4, num_workers=0, image_size=48, **options)
    data.setup("fit")
    return data


def voc_data(root: Path, **options: object) -> VOC2012:
    data = VOC2012(root=str(root), classes=CLASSES, batch_size=4, num_workers=0, image_size=48, **options)
    data.setup("fit")
    return data


def replace_line(path: Path, number: int, line: str) -> None:
    lines = path.read_text().splitlines()
    lines[number] = line
    path.write_text("\n".join(lines) + "\n")


def first_image(cub: Path) -> Path:
    return cub / "images" / (cub / "images.txt").read_text().split()[1]


def stored_with(path: Path, orientation: int, cut: slice) -> None:
    """Store an image again, `cut` in height so that turning shows, with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))[cut]
    Image.fromarray(pixels).save(path, exif=exif, quality=95)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_and_masks_turn_with_an_exif_rotated_bird(orientation: int, cub: Path) -> None:
    mask = cub / "segmentations" / first_image(cub).relative_to(cub / "images").with_suffix(".png")
    before = cub_data(cub).open("train")[0]
    rows = slice(0, 40)
    drawn = before.mask[rows] > 0
    ys, xs = np.nonzero(drawn)
    number = f"1 {xs.min()} {ys.min()} {xs.max() + 1 - xs.min()} {ys.max() + 1 - ys.min()}"
    replace_line(cub / "bounding_boxes.txt", 0, number)
    stored_with(first_image(cub), orientation, rows)
    Image.fromarray((drawn * 255).astype(np.uint8)).save(mask)
    turned = cub_data(cub).open("train")[0]
    expected = turn_upright(drawn, orientation)
    assert turned.image.shape[:2] == turned.mask.shape == ((48, 40) if orientation > 4 else (40, 48))
    assert np.array_equal(turned.mask > 0, expected)
    ys, xs = np.nonzero(expected)
    assert turned.boxes.tolist() == [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]
    difference = turned.image.astype(int) - turn_upright(before.image[rows], orientation)
    assert abs(difference).mean() < 5  # the bird lies where its mask says, but for JPEG's losses


def test_boxes_and_masks_turn_with_an_exif_rotated_voc_image(voc: Path) -> None:
    name = (voc / "ImageSets/Main/train.txt").read_text().split()[0]
    before = voc_data(voc).open("train")[0]
    stored_with(voc / "JPEGImages" / f"{name}.jpg", 6, slice(None))
    turned = voc_data(voc).open("train")[0]
    assert np.array_equal(turned.mask, turn_upright(before.mask, 6))
    x0, y0, x1, y1 = before.boxes.T
    assert np.array_equal(turned.boxes.T, [48 - y1, x0, 48 - y0, x1])


@pytest.mark.parametrize("kind", ["gif", "png"])
def test_of_an_animation_the_first_frame_is_read(kind: str, tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (8, 6), color) for color in ("red", "blue"))
    first.save(tmp_path / f"x.{kind}", save_all=True, append_images=[second], duration=100)
    image = read_image(tmp_path / f"x.{kind}")
    assert image.shape == (6, 8, 3)
    assert np.array_equal(image, np.broadcast_to([255, 0, 0], image.shape))
    assert find_images([tmp_path]) == [tmp_path / f"x.{kind}"]


def test_one_pixel_is_an_image(cub: Path) -> None:
    Image.new("RGB", (1, 1), "white").save(first_image(cub))
    shutil.rmtree(cub / "segmentations")
    replace_line(cub / "bounding_boxes.txt", 0, "1 0 0 1 1")
    data = cub_data(cub)
    assert data.open("train")[0].boxes.tolist() == [[0, 0, 1, 1]]
    assert sum(len(batch) for batch in data.train_dataloader()) == 24


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_file_is_what_it_holds_not_what_its_suffix_says(kind: str, cub: Path) -> None:
    before = cub_data(cub).open("train")[0].image
    Image.fromarray(before).save(first_image(cub), format=kind)
    assert cub_data(cub).open("train")[0].image.shape == before.shape


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"%PDF-1.4\n", b"<svg/>"])
def test_formats_that_are_programs_are_no_images(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(content)  # Pillow would hand PostScript to Ghostscript
    with pytest.raises(DataError, match=r"x\.jpg: not a readable image"):
        check_image(tmp_path / "x.jpg")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_truncated_files_of_rarer_formats_are_found_before_training(kind: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.jpg", format=kind)
    check_image(tmp_path / "x.jpg")
    whole = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DataError, match=r"x\.jpg: not a readable image"):
        check_image(tmp_path / "x.jpg")


def test_not_a_number_among_float_pixels_is_black(tmp_path: Path) -> None:
    Image.fromarray(np.array([[np.nan, 200.0]], np.float32)).save(tmp_path / "x.tif")
    assert read_image(tmp_path / "x.tif")[0, :, 0].tolist() == [0, 200]


def windows(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def marked(text: str) -> bytes:
    return b"\xef\xbb\xbf" + text.encode()


@pytest.mark.parametrize("write", [windows, marked])
@pytest.mark.parametrize("file", CUB_FILES)
def test_windows_line_ends_and_byte_order_marks_change_nothing(
    write: Callable[[str], bytes], file: str, cub: Path
) -> None:
    before = cub_data(cub).open("train")
    (cub / file).write_bytes(write((cub / file).read_text()))
    after = cub_data(cub).open("train")
    assert [(i.name, i.labels, i.boxes.tolist()) for i in after.items] == [
        (i.name, i.labels, i.boxes.tolist()) for i in before.items
    ]
    assert after.class_names == before.class_names


@pytest.mark.parametrize("write", [windows, marked])
def test_windows_line_ends_and_byte_order_marks_change_nothing_in_voc(write: Callable[[str], bytes], voc: Path) -> None:
    before = voc_data(voc).open("train")
    for path in [*voc.glob("ImageSets/Main/*.txt"), *voc.glob("Annotations/*.xml")]:
        path.write_bytes(write(path.read_text()))
    after = voc_data(voc).open("train")
    assert [(i.name, i.boxes.tolist()) for i in after.items] == [(i.name, i.boxes.tolist()) for i in before.items]


@pytest.mark.parametrize("number", ["1", "01", "001"])
def test_an_id_that_appears_twice_is_named_however_it_is_written(number: str, cub: Path) -> None:
    replace_line(cub / "images.txt", 1, f"{number} 001.circle/other.jpg")
    with pytest.raises(DataError, match=r"images\.txt:2: id 1 appears twice"):
        cub_data(cub)


@pytest.mark.parametrize("number", ["²", "٣", "-1", "1.0", "9" * 30])
def test_an_id_that_is_no_plain_number_is_named(number: str, cub: Path) -> None:
    replace_line(cub / "images.txt", 1, f"{number} 001.circle/other.jpg")
    with pytest.raises(DataError, match=r"images\.txt:2: found .* expected an id"):
        cub_data(cub)


def test_gaps_in_image_ids_are_as_good_as_none(cub: Path) -> None:
    for file in CUB_FILES:
        if file != "classes.txt":
            rows = [line.split(maxsplit=1) for line in (cub / file).read_text().splitlines()]
            (cub / file).write_text("".join(f"{int(number) * 7 + 100} {rest}\n" for number, rest in rows))
    assert len(cub_data(cub).open("train")) == 24


@pytest.mark.parametrize(
    "box",
    ["20 20 -5 5", "20 20 0 5", "nan 1 5 5", "1 1 nan 5", "1 1 inf 5", "-inf 1 5 5", "1 1 1e400 5", "500 500 5 5"],
)
def test_a_box_that_is_none_is_named_and_can_be_left_out(box: str, cub: Path) -> None:
    replace_line(cub / "bounding_boxes.txt", 0, f"1 {box}")
    with pytest.raises(DataError, match=r"bounding_boxes\.txt: box \(.*\) of '.*' is empty or outside its image"):
        cub_data(cub)
    assert cub_data(cub, on_error="skip").open("train")[0].boxes.shape == (0, 4)


def test_a_class_without_images_keeps_its_index(cub: Path) -> None:
    (cub / "classes.txt").write_text((cub / "classes.txt").read_text() + "9 009.Dodo\n")
    data = cub_data(cub)
    assert data.class_names[8] == "Dodo"
    assert sum(len(batch) for batch in data.val_dataloader()) == 13


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../../etc/passwd", "001.circle/../../../x.jpg", "..", ".", "x" * 300]
)
def test_a_list_cannot_name_files_outside_of_the_data_set(path: str, cub: Path, voc: Path) -> None:
    replace_line(cub / "images.txt", 2, f"3 {path}")
    with pytest.raises(DataError, match=r"images\.txt: image 3: .* is no path to an image; expected one that stays"):
        cub_data(cub)
    replace_line(voc / "ImageSets/Main/train.txt", 2, path)
    with pytest.raises(DataError, match=r"train\.txt:3: .* is no path to an image; expected one that stays"):
        voc_data(voc)


def test_links_that_lie_in_a_data_set_are_followed(cub: Path, tmp_path: Path) -> None:
    (cub / "images").rename(tmp_path / "another disk")
    (cub / "images").symlink_to(tmp_path / "another disk")
    assert len(cub_data(cub).open("train")) == 24


def test_images_of_both_splits_are_told_once(cub: Path, voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    cub_data(cub)
    voc_data(voc)
    assert not caplog.records
    shared = (cub / "images.txt").read_text().splitlines()[0].split()[1]
    tested = (cub / "train_test_split.txt").read_text().splitlines().index("25 0")
    replace_line(cub / "images.txt", tested, f"25 {shared}")
    replace_line(
        cub / "image_class_labels.txt",
        tested,
        (cub / "image_class_labels.txt").read_text().splitlines()[0].replace("1 ", "25 ", 1),
    )
    cub_data(cub)
    (record,) = caplog.records
    assert "1 of 13 validation images are training images, too, such as " in record.getMessage()
    assert shared in record.getMessage()
    caplog.clear()
    voc_data(voc, val_set="train")
    (record,) = caplog.records
    assert "16 of 16 validation images are training images, too" in record.getMessage()


def test_an_image_that_is_listed_twice_is_told(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    listing = voc / "ImageSets/Main/train.txt"
    listing.write_text(listing.read_text() + listing.read_text().split()[0])
    assert len(voc_data(voc).open("train")) == 17
    assert "1 images are listed more than once" in caplog.text


def test_file_names_of_any_bytes_are_read(tmp_path: Path) -> None:
    for label in ("kea", "tui"):
        (tmp_path / label).mkdir()
        for number in range(8):
            image = Image.new("RGB", (8, 8))
            image.save(os.fsdecode(os.fsencode(tmp_path / label) + b"/caf\xe9 %d.jpg" % number))
    data = ImageFolderDataModule(root=str(tmp_path), batch_size=4, num_workers=0, image_size=16, val_share=0.5)
    data.setup("fit")
    names = [name for batch in data.val_dataloader() for name in batch.name]
    assert names
    assert all(r"caf\udce9 " in name.encode().decode() for name in names)


def test_a_class_folder_needs_a_name_that_is_text(tmp_path: Path) -> None:
    for name in (b"kea", b"caf\xe9"):
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        folder.mkdir()
        Image.new("RGB", (8, 8)).save(folder / "1.jpg")
    with pytest.raises(DataError, match=r"caf\\udce9: the folder's name is no UTF-8"):
        ImageFolderDataModule(root=str(tmp_path), image_size=16).open("train")
