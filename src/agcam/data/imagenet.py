"""ImageNet-1k (ILSVRC 2012, Russakovsky et al. 2015) in its CLS-LOC layout: one class an image, boxes where drawn."""

from __future__ import annotations

import csv
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agcam.data.folder import list_folders
from agcam.data.image_files import find_image_files
from agcam.data.listing import name_of_file, read_text, shown
from agcam.data.module import ImageDataModule, Split
from agcam.data.source import FileSource, Item, OnError
from agcam.data.xml_boxes import Box, box_of, name_of, read_objects
from agcam.errors import DataError, brief

log = logging.getLogger(__name__)
MAPPING = "LOC_synset_mapping.txt"
SOLUTION = "LOC_val_solution.csv"
_WNID = re.compile(r"n\d{8}")
# VOC's format, but not its count of pixels: in images 500 wide, coordinates run from 0 to 499 (Choe et al.'s list of
# the validation boxes, wsolevaluation metadata/ILSVRC/test, which repeats the XML's numbers; their areas include both
# ends). TensorFlow's process_bounding_boxes.py and the AG-CAM authors' ILSVRC.py take the numbers as they are, too.
_FIRST_PIXEL = 0


class ImageNet1k(ImageDataModule):
    """ImageNet-1k as image-net.org and Kaggle pack it; validation and test are the official validation set.

    A class's index is the place of its WordNet id among all ids of the synset mapping, so a data set that holds only
    some of the class folders keeps the 1000 official indices. Validation images may lie in one folder or in class
    folders. An image without annotation has no boxes and counts in no localization metric.

    Args:
        root: folder with `Data/CLS-LOC`, `Annotations/CLS-LOC` and `LOC_synset_mapping.txt`, or its parent; the text
            files may lie in either.
        on_error: "raise" at the first bad image or box, or "skip" what is bad and say so.
        **kwargs: see `ImageDataModule`.
    """

    def __init__(self, root: str, on_error: OnError = "raise", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root).expanduser()
        self.on_error = on_error

    def open(self, split: Split) -> FileSource:
        """Open the training or the validation set."""
        items, class_names = read_imagenet(self.root, train=split == "train")
        return FileSource(items, class_names, multilabel=False, on_error=self.on_error)


@dataclass(frozen=True)
class _Tree:
    """One split of a data set: its folders, and the files that say what is on the images."""

    images: Path
    annotations: Path
    train: bool
    mapping: Path
    index: Mapping[str, int]
    solution: Path | None
    solved: Mapping[str, str]


def read_imagenet(root: Path, train: bool) -> tuple[list[Item], list[str]]:
    """The items of a split and all class names. An item with a wrong annotation carries its `fault`.

    Raises:
        DataError: naming the folder, file or line that is missing or wrong.
    """
    folder = next((p for p in (root, root / "ILSVRC") if (p / "Data" / "CLS-LOC").is_dir()), None)
    if folder is None:
        raise DataError(
            f"{root}: no ImageNet here; expected Data/CLS-LOC/, Annotations/CLS-LOC/ and {MAPPING}. It cannot be "
            "fetched for you: register at image-net.org, or on Kaggle (imagenet-object-localization-challenge)"
        )
    mapping, solution = _near(folder, MAPPING), _near(folder, SOLUTION)
    if mapping is None:
        raise DataError(f"{folder / MAPPING}: no such file, nor beside {folder.name}/; class indices come from it")
    names = _read_mapping(mapping)
    split = "train" if train else "val"
    tree = _Tree(
        images=folder / "Data" / "CLS-LOC" / split,
        annotations=folder / "Annotations" / "CLS-LOC" / split,
        train=train,
        mapping=mapping,
        index={wnid: i for i, wnid in enumerate(names)},
        solution=None if train else solution,
        solved={} if train or solution is None else _read_solution(solution),
    )
    items = [_read_item(tree, path, wnid) for path, wnid in _files(tree)]
    if not items:
        raise DataError(f"{tree.images}: no image; expected {'<wnid>/*.JPEG' if train else '*.JPEG'}")
    bare = sum(item.boxes is None and item.fault is None for item in items)
    if bare:
        log.warning("%s: %d of %d images have no boxes; localization leaves them out", tree.images, bare, len(items))
    return items, list(names.values())


def _near(folder: Path, name: str) -> Path | None:
    return next((p / name for p in (folder, folder.absolute().parent) if (p / name).is_file()), None)


def _read_mapping(path: Path) -> dict[str, str]:
    """Class names by WordNet id, in the order of their indices."""
    lines: dict[str, str] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        wnid, _, synonyms = line.strip().partition(" ")
        if not wnid:
            continue
        if not _WNID.fullmatch(wnid) or not synonyms.strip():
            raise DataError(f"{path}:{number}: found {shown(line.strip())}, expected 'n01440764 tench, Tinca tinca'")
        if wnid in lines:
            raise DataError(f"{path}:{number}: {wnid} appears twice")
        lines[wnid] = synonyms.strip()
    if not lines:
        raise DataError(f"{path}: the file is empty; expected a line for each class")
    lines = dict(sorted(lines.items()))
    return dict(zip(lines, _unique_names(lines), strict=True))


def _unique_names(lines: Mapping[str, str]) -> list[str]:
    """The first synonym; the whole line where classes share it (two maillots), with the id where that is no help.

    Upper and lower case are alike here, as where people name classes: the Cardigan is a dog, the cardigan is not.
    """
    first = {wnid: line.split(",")[0].strip() for wnid, line in lines.items()}
    sharing = Counter(name.casefold() for name in first.values())
    same = Counter(line.casefold() for line in lines.values())
    return [
        name
        if sharing[name.casefold()] == 1
        else lines[wnid]
        if same[lines[wnid].casefold()] == 1
        else f"{lines[wnid]} ({wnid})"
        for wnid, name in first.items()
    ]


def _read_solution(path: Path) -> dict[str, str]:
    """WordNet ids by image name."""
    found: dict[str, str] = {}
    try:
        rows = list(csv.reader(read_text(path).split("\n")))
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as CSV ({brief(error)})") from error
    if not rows or rows[0] != ["ImageId", "PredictionString"]:
        raise DataError(f"{path}:1: expected the heading ImageId,PredictionString")
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        words = row[1].split() if len(row) == 2 else []
        wnids = set(words[::5])
        if len(words) % 5 or len(wnids) != 1:
            raise DataError(
                f"{path}:{number}: found {shown(','.join(row))}, expected an image's name and "
                "'wnid x1 y1 x2 y2' once or more, always of one wnid"
            )
        if row[0] in found:
            raise DataError(f"{path}:{number}: {row[0]} appears twice")
        found[row[0]] = wnids.pop()
    return found


def _files(tree: _Tree) -> Iterator[tuple[Path, str | None]]:
    """Image files by path, each with the WordNet id of its folder; None for images outside of class folders."""
    if not tree.images.is_dir():
        raise DataError(f"{tree.images}: no such folder; expected the images of this split")
    for folder in list_folders(tree.images):
        if folder.name not in tree.index:
            raise DataError(f"{folder}: no such class in {tree.mapping}; expected a WordNet id from there")
        yield from ((path, folder.name) for path in find_image_files(folder).paths)
    if not tree.train:
        yield from ((path, None) for path in find_image_files(tree.images, deep=False).paths)


def _read_item(tree: _Tree, path: Path, folder: str | None) -> Item:
    annotation = tree.annotations / (folder or "") / f"{path.stem}.xml"
    if folder and not annotation.is_file():  # those of the validation set lie flat, sorted or not
        annotation = tree.annotations / f"{path.stem}.xml"
    name = name_of_file(path.relative_to(tree.images))
    try:
        wnid, boxes = _read_annotation(tree, path, annotation, folder)
    except DataError as error:
        return Item(path, name, labels=(), fault=str(error))
    label = tree.index[wnid]
    return Item(
        path=path,
        name=name,
        labels=(label,),
        boxes=np.array(boxes, dtype=np.float32) if boxes else None,
        box_labels=np.full(len(boxes), label, dtype=np.int64) if boxes else None,
        origin=annotation,
    )


def _read_annotation(tree: _Tree, path: Path, annotation: Path, folder: str | None) -> tuple[str, list[Box]]:
    """An image's WordNet id and the boxes of its own class."""
    try:
        objects = [(name_of(node), node) for node in read_objects(annotation)]
    except FileNotFoundError:
        objects = []
    wnid = folder if tree.train and folder else _decide(tree, path, annotation, {n for n, _ in objects if n}, folder)
    # training files may hold boxes of other classes as well, and some of them name a dog in English
    own = [node for name, node in objects if name == wnid or not _WNID.fullmatch(name)]
    return wnid, [box_of(node, annotation, _FIRST_PIXEL) for node in own]


def _decide(tree: _Tree, path: Path, annotation: Path, drawn: set[str], folder: str | None) -> str:
    """The WordNet id of a validation image: solution file, boxes and class folder must agree where they exist."""
    claims = {str(annotation): drawn, f"folder {path.parent}": {folder} if folder else set()}
    if tree.solution is not None:
        if path.stem not in tree.solved:
            raise DataError(f"{tree.solution}: no line for {path.name}; the file may be truncated")
        claims[str(tree.solution)] = {tree.solved[path.stem]}
    claims = {where: wnids for where, wnids in claims.items() if wnids}
    if not claims:
        raise DataError(f"{path}: its class is unknown; expected {SOLUTION}, {annotation}, or a class folder around it")
    said = "; ".join(f"{where} says {' and '.join(sorted(wnids))}" for where, wnids in claims.items())
    common = set.intersection(*claims.values())
    if len(common) != 1:
        raise DataError(f"{path}: its class is not clear, expected one that all agree on: {said}")
    (wnid,) = common
    if wnid not in tree.index:
        raise DataError(f"{path}: unknown class, expected a WordNet id of {tree.mapping}: {said}")
    return wnid
