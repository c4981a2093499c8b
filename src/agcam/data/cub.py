"""Read CUB-200-2011 (Wah et al. 2011: 200 species of birds, one box each) and data in its layout, such as NABirds."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from agcam.data.batch import IGNORE
from agcam.data.module import ImageDataModule, Split
from agcam.data.source import FileDataset, Item, OnError
from agcam.errors import DataError
from agcam.io.download import Archive, fetch
from agcam.io.images import read_mask
from agcam.io.text import inside, quoted, read_lines

ARCHIVE = Archive(
    url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
    md5="97eceeb196236b17998738112f37df78",
    folder="CUB_200_2011",
)
_WORD = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9][\w-]{0,63}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_Key = int | str
_Table = dict[_Key, list[str]]


class CUB200(ImageDataModule):
    """CUB-200-2011 in its official layout; validation and test are the official test split.

    Masks are used where `segmentations/` lies in the data set's folder or beside it. Ids need neither be contiguous
    nor numbers, so a part of the data set works as well, as does NABirds (Van Horn et al. 2015): of the tree in
    its `hierarchy.txt` the 555 leaves are classes. Boxes and masks refer to pixels as they lie on disk, and are turned
    with the image if EXIF turns it.

    Args:
        root: folder with `images.txt`, or its parent if that is called `CUB_200_2011` or `nabirds`.
        download: fetch the official archive into `root` if it is not there.
        archive_url: where to fetch the archive from instead; its checksum must be the same.
        on_error: "raise" at the first bad image or box, or "skip" bad ones with a warning.
        **kwargs: see `ImageDataModule`.
    """

    def __init__(
        self,
        root: str,
        download: bool = False,
        archive_url: str | None = None,
        on_error: OnError = "raise",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root = Path(root).expanduser()
        self.download = download
        self.archive = ARCHIVE if archive_url is None else ARCHIVE.at(archive_url)
        self.on_error = on_error

    @property
    def title(self) -> str:
        """The folder's name where it is not that of CUB-200-2011."""
        name = (_folder(self.root) or self.root).resolve().name
        return type(self).__name__ if name == ARCHIVE.folder else f"{name} (CUB format)"

    def prepare_data(self) -> None:
        """Fetch and unpack the archive if asked to."""
        if self.download and _folder(self.root) is None:
            fetch(self.archive, self.root)

    def open(self, split: Split) -> FileDataset:
        """Open the official train or test split."""
        items, class_names = read_cub(self.root, train=split == "train")
        return FileDataset(items, class_names, multilabel=False, read_mask=_read_mask, on_error=self.on_error)


def read_cub(root: Path, train: bool) -> tuple[list[Item], list[str]]:
    """Read the items and class names of a split.

    Raises:
        DataError: naming the file and line that is missing or wrong.
    """
    folder = _folder(root)
    if folder is None:
        raise DataError(
            f"{root}: no CUB-200-2011 here; expected images.txt, classes.txt, image_class_labels.txt, "
            "bounding_boxes.txt, train_test_split.txt and images/, or pass --data.download true"
        )
    classes = _table(folder / "classes.txt", 1)
    paths = _table(folder / "images.txt", 1)
    labels = _table(folder / "image_class_labels.txt", 1)
    boxes = _table(folder / "bounding_boxes.txt", 4)
    splits = _table(folder / "train_test_split.txt", 1)

    names = _class_names(folder, classes, {label for (label,) in labels.values()})
    index = {class_id: i for i, class_id in enumerate(names)}
    segmentations = next((p for p in (folder / "segmentations", folder.parent / "segmentations") if p.is_dir()), None)
    items = []
    for image_id, (path,) in paths.items():
        inside(path, f"{folder / 'images.txt'}: image {image_id}")
        flag = _lookup(splits, image_id, folder / "train_test_split.txt")[0]
        if flag not in ("0", "1"):
            raise DataError(
                f"{folder / 'train_test_split.txt'}: image {image_id} has {quoted(flag)}, expected 0 or 1 (train)"
            )
        if (flag == "1") != train:
            continue
        class_text = _lookup(labels, image_id, folder / "image_class_labels.txt")[0]
        if (class_id := _key(class_text)) not in index:
            raise DataError(
                f"{folder / 'image_class_labels.txt'}: image {image_id} has class {quoted(class_text)}, which "
                "classes.txt does not list; add it there or correct the line"
            )
        numbers = _lookup(boxes, image_id, folder / "bounding_boxes.txt")
        try:
            x, y, w, h = (float(n) for n in numbers)
        except ValueError:
            found, where = quoted(" ".join(numbers)), folder / "bounding_boxes.txt"
            raise DataError(f"{where}: image {image_id} has {found}, expected four numbers: x y width height") from None
        mask = segmentations / Path(path).with_suffix(".png") if segmentations else None
        items.append(
            Item(
                path=folder / "images" / path,
                name=path,
                labels=(index[class_id],),
                boxes=np.array([[x, y, x + w, y + h]]),
                box_labels=np.array([index[class_id]]),
                mask=mask if mask is not None and mask.is_file() else None,
                origin=folder / "bounding_boxes.txt",
            )
        )
    if not items:
        raise DataError(
            f"{folder / 'train_test_split.txt'}: no image is marked for {'training' if train else 'testing'}; "
            f"expected some lines that end with {'1' if train else '0'}"
        )
    return items, list(names.values())


def _folder(root: Path) -> Path | None:
    return next((p for p in (root, root / ARCHIVE.folder, root / "nabirds") if (p / "images.txt").is_file()), None)


def _class_names(folder: Path, classes: _Table, labels: set[str]) -> dict[_Key, str]:
    """Name the classes by id, in the order of the ids; of a hierarchy only its leaves and ids that are labels."""
    ids = list(classes)
    if (folder / "hierarchy.txt").is_file():
        parents = {_key(parent) for (parent,) in _table(folder / "hierarchy.txt", 1).values()}
        ids = [key for key in ids if key not in parents or str(key) in labels]
    ids.sort(key=lambda key: (isinstance(key, str), key))
    names = {key: re.sub(r"^\d+\.", "", classes[key][0]).replace("_", " ") for key in ids}
    shared = Counter(names.values())
    return {key: name if shared[name] == 1 else f"{name} ({key})" for key, name in names.items()}


def _read_mask(item: Item) -> np.ndarray:
    """Read a segmentation, whose gray values are the share of annotators who marked the bird; keep more than half."""
    assert item.mask is not None
    value = item.labels[0] + 1
    if value >= IGNORE:
        raise DataError(
            f"{item.mask}: masks can name {IGNORE - 1} classes, class index {item.labels[0]} is beyond that; score "
            "against boxes instead (--explanation.ground_truth boxes, --ground-truth boxes)"
        )
    return np.where(read_mask(item.mask) > 127, value, 0).astype(np.uint8)


def _table(path: Path, columns: int) -> _Table:
    """Read `id value …` lines as a dictionary; a single value may hold spaces."""
    rows: _Table = {}
    try:
        for number, line in read_lines(path):
            text, *values = line.split(maxsplit=1) if columns == 1 else line.split()
            if len(values) != columns or (key := _key(text)) is None:
                raise DataError(f"{path}:{number}: found {quoted(line)}, expected an id and {columns} value(s)")
            if key in rows:
                raise DataError(f"{path}:{number}: id {key} appears twice; keep one of the lines")
            rows[key] = values
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; CUB-200-2011 and NABirds have one, unpack the archive again") from None
    if not rows:
        raise DataError(f"{path}: the file is empty; expected a line for each id")
    return rows


def _lookup(table: _Table, image_id: _Key, path: Path) -> list[str]:
    if image_id not in table:
        raise DataError(
            f"{path}: no line for image {image_id} of images.txt; the file may be truncated, unpack the archive again"
        )
    return table[image_id]


def _key(text: str) -> _Key | None:
    """Read an id: a number (7 and 007 are equal) or, as in NABirds, a UUID or word; None for another column."""
    if text.isascii() and text.isdigit():
        return int(text) if len(text) <= 18 else None
    return text if _WORD.fullmatch(text) else None
