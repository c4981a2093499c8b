"""PASCAL VOC 2012 (Everingham et al.), multi-label, and other data in VOC format."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from agcam.data.module import ImageDataModule, Split
from agcam.data.source import FileSource, Item, OnError
from agcam.data.xml_boxes import box_of, name_of, read_objects
from agcam.errors import DataError
from agcam.io.download import Archive, fetch
from agcam.io.images import read_mask
from agcam.io.text import inside, read_lines, shown

log = logging.getLogger(__name__)
CLASSES = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
ARCHIVE = Archive(
    url="https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    md5="6cd6e144f989b92b3379bac3b3de84fd",
    folder="VOCdevkit/VOC2012",
)


class VOC2012(ImageDataModule):
    """VOC 2012 as multi-label data: image sets of `ImageSets/Main`, boxes of `Annotations`, masks where present.

    The labels of an image are the classes of its boxes. The published test set has no annotations, so `test_set`
    is "val" unless given.

    Args:
        root: folder with `Annotations`, `ImageSets` and `JPEGImages` (or one that holds `VOCdevkit/VOC2012`).
        classes: class names in the order of their indices, and of the values 1 … C in masks; None takes VOC's 20.
        train_set: name of the image set to train on; "Segmentation/train" takes it from another folder.
        val_set: name of the image set to validate on.
        test_set: name of the image set to test on.
        difficult: whether objects marked difficult count; VOC's own protocol leaves them out.
        single_class: only images whose objects that count are all of one class, as Leem & Seo (AAAI 2024) evaluate;
            the data stay multi-label.
        download: fetch the official archive into `root` if it is not there.
        archive_url: where to fetch the archive from instead; its checksum must be the same.
        on_error: "raise" at the first bad image or box, or "skip" what is bad and say so.
        **kwargs: see `ImageDataModule`.
    """

    def __init__(
        self,
        root: str,
        classes: list[str] | None = None,
        train_set: str = "train",
        val_set: str = "val",
        test_set: str = "val",
        difficult: bool = False,
        single_class: bool = False,
        download: bool = False,
        archive_url: str | None = None,
        on_error: OnError = "raise",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root = Path(root).expanduser()
        self.classes = classes or CLASSES
        self.sets: dict[Split, str] = {"train": train_set, "val": val_set, "test": test_set}
        self.difficult = difficult
        self.single_class = single_class
        self.download = download
        self.archive = ARCHIVE if archive_url is None else ARCHIVE.at(archive_url)
        self.on_error = on_error

    def prepare_data(self) -> None:
        """Fetch and unpack the archive if asked to."""
        if self.download and not any((p / "ImageSets").is_dir() for p in (self.root, self.root / ARCHIVE.folder)):
            fetch(self.archive, self.root)

    def open(self, split: Split) -> FileSource:
        """Open the image set of a split."""
        items = read_voc(self.root, self.sets[split], self.classes, self.difficult)
        if self.single_class:
            items = _of_one_class(items, self.sets[split])
        return FileSource(items, self.classes, multilabel=True, read_mask=_read_mask, on_error=self.on_error)


def read_voc(root: Path, image_set: str, classes: list[str], difficult: bool = False) -> list[Item]:
    """The items of an image set. One whose annotation is wrong carries its `fault`; `FileSource` acts on it.

    Raises:
        DataError: if the image set itself is missing, unreadable or empty.
    """
    folder = next((p for p in (root, root / ARCHIVE.folder) if (p / "ImageSets").is_dir()), None)
    if folder is None:
        raise DataError(
            f"{root}: no VOC data here; expected Annotations/, ImageSets/ and JPEGImages/, or pass --data.download true"
        )
    listing = folder / "ImageSets" / (f"{image_set}.txt" if "/" in image_set else f"Main/{image_set}.txt")
    try:
        names = [inside(line.split()[0], f"{listing}:{number}") for number, line in read_lines(listing)]
    except FileNotFoundError:
        found = ", ".join(sorted(p.stem for p in listing.parent.glob("*.txt"))) or "none"
        raise DataError(f"{listing}: no such image set; there are: {found}") from None
    if not names:
        raise DataError(f"{listing}: the image set is empty; expected an image name a line")
    items = []
    for name in names:
        try:
            items.append(_read_item(folder, name, classes, difficult))
        except DataError as error:
            items.append(Item(folder / "JPEGImages" / f"{name}.jpg", name, labels=(), fault=str(error)))
    return items


def _of_one_class(items: list[Item], image_set: str) -> list[Item]:
    """The items whose boxes are of exactly one class; faulty ones stay, for `FileSource` to act on."""
    kept = [item for item in items if item.fault is not None or len(item.labels) == 1]
    log.warning(
        "%s: left out %d of %d images that do not show exactly one class", image_set, len(items) - len(kept), len(items)
    )
    if not kept:
        raise DataError(f"{image_set}: no image shows exactly one class; leave --data.single_class out")
    return kept


def _read_item(folder: Path, name: str, classes: list[str], difficult: bool) -> Item:
    path = folder / "Annotations" / f"{name}.xml"
    try:
        objects = read_objects(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such annotation; the image set names {name}") from None
    boxes, labels = [], []
    for node in objects:
        class_name = name_of(node)
        if class_name not in classes:
            raise DataError(
                f"{path}: unknown class {shown(class_name)}; expected one of {', '.join(classes)}, or set "
                "--data.classes"
            )
        if (node.findtext("difficult") or "0").strip() == "1" and not difficult:
            continue
        boxes.append(box_of(node, path, first=1))
        labels.append(classes.index(class_name))
    mask = folder / "SegmentationClass" / f"{name}.png"
    return Item(
        path=folder / "JPEGImages" / f"{name}.jpg",
        name=name,
        labels=tuple(sorted(set(labels))),
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        box_labels=np.array(labels, dtype=np.int64),
        mask=mask if mask.is_file() else None,
        origin=path,
    )


def _read_mask(item: Item) -> np.ndarray:
    assert item.mask is not None
    return read_mask(item.mask)
