"""A data set of 100,000 images is opened, every file looked at, in seconds of one processor."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agcam.data import CUB200, VOC2012, ImageFolderDataModule
from agcam.data.module import ImageDataModule

FOLDERS = 200
BOX = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>21</xmax><ymax>21</ymax></bndbox>"


def picture(kind: str) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(out, {"jpg": "JPEG", "png": "PNG"}[kind])
    return out.getvalue()


def write_all(root: Path, names: list[str], content: bytes) -> None:
    for folder in {(root / name).parent for name in names}:
        folder.mkdir(parents=True)
    for name in names:
        (root / name).write_bytes(content)


def cub(root: Path, count: int, kind: str = "jpg") -> ImageDataModule:
    names = [f"{n % FOLDERS:03d}.Bird/{n}.{kind}" for n in range(count)]
    write_all(root / "images", names, picture(kind))
    lines = {
        "images": (f"{n} {name}" for n, name in enumerate(names)),
        "classes": (f"{n} {n:03d}.Bird" for n in range(FOLDERS)),
        "image_class_labels": (f"{n} {n % FOLDERS}" for n in range(count)),
        "bounding_boxes": (f"{n} 1 1 20 20" for n in range(count)),
        "train_test_split": (f"{n} 1" for n in range(count)),
    }
    for name, text in lines.items():
        (root / f"{name}.txt").write_text("\n".join(text))
    return CUB200(root=str(root))


def cub_of_png(root: Path, count: int) -> ImageDataModule:
    return cub(root, count, "png")


def folder(root: Path, count: int) -> ImageDataModule:
    write_all(root / "train", [f"bird {n % FOLDERS}/{n}.jpg" for n in range(count)], picture("jpg"))
    write_all(root / "val", ["bird 0/0.jpg"], picture("jpg"))
    return ImageFolderDataModule(root=str(root))


def voc(root: Path, count: int) -> ImageDataModule:
    write_all(root / "JPEGImages", [f"{n}.jpg" for n in range(count)], picture("jpg"))
    (root / "Annotations").mkdir()
    (root / "ImageSets/Main").mkdir(parents=True)
    for n in range(count):
        text = f"<annotation><object><name>{n % FOLDERS}</name>{BOX}</object></annotation>"
        (root / f"Annotations/{n}.xml").write_text(text)
    (root / "ImageSets/Main/train.txt").write_text("\n".join(map(str, range(count))))
    return VOC2012(root=str(root), classes=[str(n) for n in range(FOLDERS)])


@pytest.mark.parametrize(
    "count", [pytest.param(1_000, id="thousand"), pytest.param(100_000, id="long", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("tree", [cub, cub_of_png, folder, voc])
def test_a_large_index_loads_in_seconds(
    tree: Callable[[Path, int], ImageDataModule], count: int, tmp_path: Path
) -> None:
    data = tree(tmp_path, count)
    start, processor = time.perf_counter(), time.process_time()
    source = data.open("train")
    took, busy = time.perf_counter() - start, time.process_time() - processor
    assert len(source) == count
    assert {source[n].labels[0] for n in range(0, count, count // 10 + 1)}
    print(f"{tree.__name__}, {count:,} images: {took:.1f} s, {busy:.1f} s of one processor")  # noqa: T201  # for -rP
    assert busy < 60 * max(count / 100_000, 0.2)
