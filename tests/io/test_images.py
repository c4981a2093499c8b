import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from agcam.errors import DataError
from agcam.io.images import MAX_PIXELS, ImageHeader, check_image, read_image, read_mask, turn_boxes, turn_upright


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK", "LA", "I;16", "I", "F"])
def test_every_mode_is_read_as_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("x.tif" if mode in ("CMYK", "F", "I", "I;16") else "x.png")
    ramp = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (20, 1))
    if mode == "I;16":
        Image.fromarray(ramp.astype(np.uint16) * 257).save(path)
    elif mode in ("I", "F"):
        Image.fromarray(ramp.astype(np.int32 if mode == "I" else np.float32)).save(path)
    else:
        Image.fromarray(ramp).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (20, 32, 3)
    assert image.dtype == np.uint8
    assert check_image(path) == (32, 20, 1)
    assert image[:, -4:].mean() - image[:, :4].mean() > 150  # dark stays left, bright right


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(9))
def test_exif_orientation_is_obeyed(suffix: str, orientation: int, tmp_path: Path) -> None:
    path, exif = tmp_path / f"x.{suffix}", Image.Exif()
    exif[0x0112] = orientation  # 0 is none of EXIF's
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 32, 3)).astype(np.uint8)).save(path, exif=exif)
    assert check_image(path) == (32, 20, orientation or 1)
    with Image.open(path) as image:
        assert np.array_equal(read_image(path), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_as_pixels_do(orientation: int) -> None:
    drawn = np.zeros((20, 32), np.uint8)
    drawn[3:9, 5:25] = 1
    ys, xs = np.nonzero(turn_upright(drawn, orientation))
    (box,) = turn_boxes(np.array([[5, 3, 25, 9]], np.float32), ImageHeader(32, 20, orientation))
    assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_truncated_files_are_found_by_reading_and_by_looking(suffix: str, keep: float, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    for look in (read_image, check_image):
        with pytest.raises(DataError, match=f"x.{suffix}: "):
            look(path)


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg: no such image"):
        read_image(tmp_path / "gone.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"text\.jpg: not a readable image"):
        check_image(tmp_path / "text.jpg")


def test_huge_images_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (20_000, 20_000)).save(path)
    with pytest.raises(DataError, match=f"huge.png: too many pixels .* the limit is {MAX_PIXELS:,}"):
        read_image(path)


def test_pixels_are_copied_once_and_a_band_at_a_time(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3001, 2000, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.bmp")
    tracemalloc.start()
    found = read_image(tmp_path / "a.bmp")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(found, pixels)
    assert peak < 1.6 * pixels.nbytes


def test_large_images_are_refused_by_their_size(tmp_path: Path) -> None:
    Image.new("1", (20_000, 6_000)).save(tmp_path / "large.png")
    with pytest.raises(DataError, match=f"20000×6000 pixels, the limit is {MAX_PIXELS:,}"):
        read_image(tmp_path / "large.png")


def test_masks_keep_their_palette_indices(tmp_path: Path) -> None:
    values = np.array([[0, 1, 255], [7, 20, 0]], np.uint8)
    mask = Image.fromarray(values, mode="P")
    mask.putpalette(list(range(256)) * 3)
    mask.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), values)


def test_a_colour_mask_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png: a mask must be a palette or grayscale image"):
        read_mask(tmp_path / "m.png")
