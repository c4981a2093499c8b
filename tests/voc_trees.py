"""Small data sets in VOC format, as annotation tools export them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from agcam.data import VOC2012

Objects = Sequence[tuple[str, tuple[float, float, float, float]]]
BOX = (5, 4, 20, 16)


def picture(path: Path, size: tuple[int, int] = (40, 30), orientation: int = 1) -> None:
    """Save an image of (width, height), as it lies on disk, with an EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.full((size[1], size[0], 3), 128, np.uint8)).save(path, exif=exif)


def annotation(objects: Objects, size: tuple[object, object] | None = (40, 30), filename: str = "") -> str:
    """The XML of an image; boxes as VOC writes them, counted from 1 and both ends included."""
    sides = ("xmin", "ymin", "xmax", "ymax")
    nodes = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox>"
        + "".join(f"<{side}>{value}</{side}>" for side, value in zip(sides, box, strict=True))
        + "</bndbox></object>"
        for name, box in objects
    )
    known = "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{known}{nodes}</annotation>"


def annotated(folder: Path, *names: str, label: str = "cat", annotations: Path | None = None) -> None:
    """Images with an XML file each: beside them, or in a folder of their own. A name is a file's, with suffix."""
    for name in names:
        picture(folder / name)
        path = (annotations or folder) / Path(name).with_suffix(".xml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(annotation([(label, BOX)], filename=Path(name).name), encoding="utf-8")


def devkit(root: Path, *names: str, sets: dict[str, str] | None = None, label: str = "cat") -> Path:
    """A tree as VOC lays it out, with image sets by name."""
    annotated(root / "JPEGImages", *names, label=label, annotations=root / "Annotations")
    for name, text in (sets or {}).items():
        path = root / "ImageSets/Main" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def opened(root: Path, classes: Sequence[str] | None = ("cat", "dog"), **options: object) -> VOC2012:
    """The data set, looked at as a fit does."""
    data = VOC2012(root=str(root), classes=classes and list(classes), num_workers=0, image_size=16, **options)
    data.setup("fit")
    return data


def names_in(data: VOC2012, split: str) -> list[str]:
    """Names of the images of a split."""
    return [item.name for item in data.open(split).items]
