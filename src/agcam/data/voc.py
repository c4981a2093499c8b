"""PASCAL VOC 2012 (Everingham et al.), multi-label, and other data in VOC format."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from agcam.data.label_map import read_labeled_mask
from agcam.data.module import ImageDataModule, Split
from agcam.data.source import FileDataset, Item, OnError
from agcam.data.splitting import check_share
from agcam.data.voc_items import Wanted, read_items
from agcam.data.voc_layout import OFFICIAL
from agcam.data.voc_sets import Sets, all_trees, list_split
from agcam.errors import DataError
from agcam.io.download import Archive, fetch
from agcam.io.images import read_mask

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
    folder=OFFICIAL,
)


class VOC2012(ImageDataModule):
    """Multi-label data in VOC format: boxes of XML files, masks of `SegmentationClass` where present.

    Laid out as VOC 2012 is (image sets of `ImageSets/Main`), or as labelImg, CVAT, Roboflow, VoTT and labelme export:
    images of any suffix, beside their XML files or in folders of their own; a folder for each split (`val`, `valid` or
    `validation`). Where neither image sets nor folders part the images, as in CVAT's `default.txt`, each is for
    training or for validation by a hash of its name: adding or removing images moves no other.

    The labels of an image are the classes of its boxes. Boxes are of the image whose size the annotation gives: as it
    lies on disk, turned upright by EXIF, or before it was shrunk. Masks are palette or grayscale images with values
    1 … C in the order of `classes`, or follow CVAT's `labelmap.txt` (colors) or labelme's `class_names.txt`; all those
    that follow a list are looked at when the data are opened.

    Args:
        root: folder of the data set (or one that holds `VOCdevkit/VOC2012`).
        classes: class names in the order of their indices; None takes VOC's 20, and any other is a fault. Of given
            ones, objects of other classes are left out and counted; images that show no other stay, as negatives.
        train_set: image set, or folder, to train on; "Segmentation/train" takes it from another folder of ImageSets.
        val_set: image set, or folder, to validate on.
        test_set: image set, or folder, to test on. None takes the folder `test` where splits are folders, else what
            `val_set` names: the published test set of VOC 2012 has no annotations.
        val_share: share of images for validation where nothing else parts them.
        difficult: whether objects marked difficult count; VOC's own protocol leaves them out.
        single_class: only images whose objects that count are all of one class, as Leem & Seo (AAAI 2024) evaluate;
            the data stay multi-label.
        masks: whether masks are used.
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
        test_set: str | None = None,
        val_share: float = 0.2,
        difficult: bool = False,
        single_class: bool = False,
        masks: bool = True,
        download: bool = False,
        archive_url: str | None = None,
        on_error: OnError = "raise",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root = Path(root).expanduser()
        self.sets = Sets(train_set, val_set, test_set, check_share(val_share))
        self.classes = classes or CLASSES
        self.wanted = Wanted(self.classes, others=bool(classes), difficult=difficult, masks=masks)
        self.single_class = single_class
        self.download = download
        self.archive = ARCHIVE if archive_url is None else ARCHIVE.at(archive_url)
        self.on_error = on_error

    @property
    def title(self) -> str:
        """The folder's name where the classes are not VOC's own."""
        own = self.classes == CLASSES
        return type(self).__name__ if own else f"{self.root.resolve().name} (VOC format)"

    def prepare_data(self) -> None:
        """Fetch and unpack the archive if asked to."""
        if self.download and not any((p / "ImageSets").is_dir() for p in (self.root, self.root / ARCHIVE.folder)):
            fetch(self.archive, self.root)

    def open(self, split: Split) -> FileDataset:
        """Open the images of a split."""
        tree, listed = list_split(self.root, split, self.sets)
        items = read_items(tree, listed, self.wanted, all_trees(self.root, self.sets))
        if self.single_class:
            items = _of_one_class(items, self.sets.wanted(split))
        return FileDataset(items, self.classes, multilabel=True, read_mask=_read_mask, on_error=self.on_error)


def _of_one_class(items: list[Item], image_set: str) -> list[Item]:
    """Keep the items whose boxes are of exactly one class, and faulty ones, which `FileDataset` reports."""
    kept = [item for item in items if item.fault is not None or len(item.labels) == 1]
    log.warning(
        "%s: left out %d of %d images that do not show exactly one class", image_set, len(items) - len(kept), len(items)
    )
    if not kept:
        raise DataError(f"{image_set}: no image shows exactly one class; leave --data.single_class out")
    return kept


def _read_mask(item: Item) -> np.ndarray:
    assert item.mask is not None
    return read_mask(item.mask) if item.label_map is None else read_labeled_mask(item.mask, item.label_map)
