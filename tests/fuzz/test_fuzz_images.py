"""Broken image and mask files of every format that is read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import fuzz, inputs
from hypothesis import strategies as st
from mutations import broken_bytes
from PIL import Image

from agcam.io.images import check_image, read_image, read_mask

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # it warns of much that is odd, and goes on
RAMP = np.tile(np.linspace(0, 255, 24).astype(np.uint8), (16, 1))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112], exif[0x010E] = 6, "a title"
    image.save(out, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}), **options)
    return out.getvalue()


def files() -> list[bytes]:
    grey, color = Image.fromarray(RAMP), Image.fromarray(np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], -1))
    wide = Image.fromarray(RAMP.astype(np.uint16) * 257)
    found = {
        "jpeg": encoded(color, "JPEG"),
        "progressive grey jpeg": encoded(grey, "JPEG", progressive=True),
        "cmyk jpeg": encoded(color.convert("CMYK"), "JPEG"),
        "png": encoded(color, "PNG"),
        "palette png": encoded(color.quantize(16), "PNG", transparency=3),
        "16-bit png": encoded(wide, "PNG"),
        "animated png": encoded(color, "PNG", save_all=True, append_images=[color.rotate(90)]),
        "animated gif": encoded(color, "GIF", save_all=True, append_images=[color.rotate(90)]),
        "webp": encoded(color, "WEBP"),
        "bmp": encoded(color, "BMP"),
        "lzw tiff": encoded(color, "TIFF", compression="tiff_lzw"),
        "jpeg tiff": encoded(color, "TIFF", compression="jpeg"),
        "float tiff": encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"),
        "ppm": encoded(color, "PPM"),
        "plain ppm": b"P3 4 2 65535 " + b"9 80 7000 " * 8,
    }
    return list(found.values())


@inputs(500)
def test_images(examples: int, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"  # by content, not by suffix

    def read(content: bytes) -> None:
        path.write_bytes(content)
        facts = check_image(path)
        image = read_image(path)
        assert image.dtype == np.uint8
        assert image.shape == (*((facts.height, facts.width) if facts.orientation < 5 else facts[:2]), 3)

    fuzz("images", st.one_of([broken_bytes(valid) for valid in files()]), read, path, examples, megabytes=2000)


@inputs(200)
def test_masks(examples: int, tmp_path: Path) -> None:
    path, out = tmp_path / "mask.png", io.BytesIO()
    mask = Image.fromarray(RAMP // 16, mode="P")
    mask.putpalette(list(range(256)) * 3)
    mask.save(out, "PNG")

    def read(content: bytes) -> None:
        path.write_bytes(content)
        check_image(path)
        assert read_mask(path).dtype == np.uint8

    fuzz("masks", broken_bytes(out.getvalue()), read, path, examples, megabytes=2000)
