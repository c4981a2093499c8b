"""Broken index files and annotations of CUB, VOC and ImageNet trees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from harness import fuzz_one_of, inputs
from mutations import broken_text
from PIL import Image

from agcam.data import CUB200, VOC2012, ImageNet1k
from agcam.data.module import ImageDataModule
from agcam.data.shapes import CLASSES, ShapesDataset
from data_set_layouts import write_cub, write_voc


def opened(data: ImageDataModule) -> None:
    """Read everything that training and validation would."""
    for split in ("train", "val"):
        source = data.open(split)
        example = source[len(source) - 1]
        if example.boxes is not None:
            height, width = example.image.shape[:2]
            assert np.isfinite(example.boxes).all()
            assert (example.boxes >= 0).all()
            assert (example.boxes <= [width, height, width, height]).all()


def fuzz_files(name: str, files: list[Path], data: Callable[[], ImageDataModule], root: Path, examples: int) -> None:
    """Break one of `files` at a time."""
    broken = {path: broken_text(path.read_text()) for path in files}
    fuzz_one_of(name, broken, lambda: opened(data()), root, examples)


@inputs(300)
def test_cub_text_files(examples: int, tmp_path: Path) -> None:
    write_cub({"train": ShapesDataset(3, 16, "train"), "test": ShapesDataset(2, 16, "test")}, tmp_path)
    fuzz_files("CUB text files", sorted(tmp_path.glob("*.txt")), lambda: CUB200(root=str(tmp_path)), tmp_path, examples)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    sources = {split: ShapesDataset(2, 24, split, multilabel=True) for split in ("train", "val")}
    write_voc(sources, tmp_path)
    return tmp_path


@inputs(300)
def test_voc_annotations(examples: int, voc: Path) -> None:
    files = sorted(voc.glob("Annotations/*.xml"))
    fuzz_files("VOC annotations", files, lambda: VOC2012(root=str(voc), classes=CLASSES), voc, examples)


@inputs(150)
def test_voc_annotations_that_declare_an_encoding(examples: int, voc: Path) -> None:
    files = sorted(voc.glob("Annotations/*.xml"))
    for path in files:
        path.write_text(f'<?xml version="1.0" encoding="gb2312"?>\n{path.read_text()}')
    name = "VOC annotations that declare an encoding"
    fuzz_files(name, files, lambda: VOC2012(root=str(voc), classes=CLASSES), voc, examples)


@inputs(150)
def test_voc_label_maps(examples: int, voc: Path) -> None:
    """Colors of the palette that `write_voc` paints masks with, in CVAT's list."""
    colors = [(0, 0, 0), *((n * 67 % 256, n * 131 % 256, n * 199 % 256) for n in range(1, len(CLASSES) + 1))]
    names = ["background", *CLASSES]
    lines = [f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in zip(names, colors, strict=True)]
    (voc / "labelmap.txt").write_text("".join(["# label:color_rgb:parts:actions\n", *lines]))
    opened(VOC2012(root=str(voc), classes=CLASSES))
    files = [voc / "labelmap.txt"]
    fuzz_files("VOC label maps", files, lambda: VOC2012(root=str(voc), classes=CLASSES), voc, examples)


@inputs(150)
def test_voc_image_sets(examples: int, voc: Path) -> None:
    files = sorted(voc.glob("ImageSets/Main/*.txt"))
    fuzz_files("VOC image sets", files, lambda: VOC2012(root=str(voc), classes=CLASSES), voc, examples)


@inputs(300)
def test_imagenet_files(examples: int, tmp_path: Path) -> None:
    wnids = ("n01440764", "n01443537")
    (tmp_path / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} name {wnid}, other\n" for wnid in wnids))
    lines, files = ["ImageId,PredictionString"], []
    for split, folder, name in (("train", wnids[0], "a"), ("train", wnids[1], "b"), ("val", "", "c"), ("val", "", "d")):
        image = tmp_path / "Data/CLS-LOC" / split / folder / f"{name}.JPEG"
        annotation = tmp_path / "Annotations/CLS-LOC" / split / folder / f"{name}.xml"
        for path in (image, annotation):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((12, 20, 3), np.uint8)).save(image, format="JPEG")
        corners = "<xmin>1</xmin>\n<ymin>2</ymin>\n<xmax>9</xmax>\n<ymax>8</ymax>\n"
        wnid = folder or wnids[0]
        annotation.write_text(
            f"<annotation>\n<object><name>{wnid}</name>\n<bndbox>{corners}</bndbox></object></annotation>"
        )
        files.append(annotation)
        if split == "val":
            lines.append(f"{name},{wnid} 1 2 9 8 ")
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(lines))
    files = [tmp_path / "LOC_synset_mapping.txt", tmp_path / "LOC_val_solution.csv", files[0], files[-1]]
    fuzz_files("ImageNet lists and annotations", files, lambda: ImageNet1k(root=str(tmp_path)), tmp_path, examples)
