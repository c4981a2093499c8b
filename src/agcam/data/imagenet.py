"""ImageNet-1k (ILSVRC 2012, Russakovsky et al. 2015) in its CLS-LOC layout: one class an image, boxes where drawn."""

from __future__ import annotations

import csv
import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agcam.data.folder import list_folders
from agcam.data.frames import Size
from agcam.data.module import ImageDataModule, Split
from agcam.data.source import FileDataset, Item, OnError
from agcam.data.xml_boxes import Annotation, Box, box_of, name_of, read_annotation
from agcam.errors import DataError, brief
from agcam.io.image_files import find_image_files, say_left_out
from agcam.io.text import name_of_file, quoted, read_text

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
    some of the class folders keeps the 1000 official indices. Without that file, classes are the training folders,
    in the order of their ids and named by them. Validation images may lie in one folder or in class folders. An image
    without annotation has no boxes and is excluded from localization metrics.

    Args:
        root: folder with `Data/CLS-LOC`, `Annotations/CLS-LOC` and `LOC_synset_mapping.txt`, or its parent; the text
            files may lie in either. Or a folder with `train/n01440764/…` and `val/`, as many repack it.
        on_error: "raise" at the first bad image or box, or "skip" what is bad and say so.
        **kwargs: see `ImageDataModule`.
    """

    def __init__(self, root: str, on_error: OnError = "raise", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root).expanduser()
        self.on_error = on_error

    def open(self, split: Split) -> FileDataset:
        """Open the training or the validation set."""
        items, class_names = read_imagenet(self.root, train=split == "train")
        return FileDataset(items, class_names, multilabel=False, on_error=self.on_error)


@dataclass(frozen=True)
class _Tree:
    """One split of a data set: its folders, and the files that say what is on the images."""

    images: Path
    annotations: Path
    train: bool
    classes: Path
    index: Mapping[str, int]
    solution: Path | None
    solved: Mapping[str, str]


def read_imagenet(root: Path, train: bool) -> tuple[list[Item], list[str]]:
    """Read the items of a split and all class names. An item with a wrong annotation carries its `fault`.

    Raises:
        DataError: naming the folder, file or line that is missing or wrong.
    """
    folder = next((p for p in (root, root / "ILSVRC") if (p / "Data" / "CLS-LOC").is_dir()), root)
    data = folder / "Data" / "CLS-LOC"
    if not data.is_dir():
        data = root
        if not any(_WNID.fullmatch(path.name) for path in root.glob("train/n*")):
            raise DataError(
                f"{root}: no ImageNet here; expected Data/CLS-LOC/, Annotations/CLS-LOC/ and {MAPPING}, or "
                "train/n01440764/… and val/. It cannot be fetched for you: register at image-net.org, or on Kaggle "
                "(imagenet-object-localization-challenge)"
            )
    mapping, solution = _near(folder, MAPPING), _near(folder, SOLUTION)
    names = _names_of_folders(data / "train", say=train) if mapping is None else _read_mapping(mapping)
    split = "train" if train else "val"
    tree = _Tree(
        images=data / split,
        annotations=folder / "Annotations" / "CLS-LOC" / split,
        train=train,
        classes=mapping or data / "train",
        index={wnid: i for i, wnid in enumerate(names)},
        solution=None if train else solution,
        solved={} if train or solution is None else _read_solution(solution),
    )
    files, left_out = _files(tree)
    items = [_read_item(tree, path, wnid) for path, wnid in files]
    if not items:
        raise DataError(f"{tree.images}: no image; expected {'<wnid>/*.JPEG' if train else '*.JPEG'}")
    if left_out:
        log.warning("%s: %s", tree.images, say_left_out(left_out))
    bare = sum(item.boxes is None and item.fault is None for item in items)
    if bare:
        log.warning("%s: %d of %d images have no boxes; localization leaves them out", tree.images, bare, len(items))
    return items, list(names.values())


def _near(folder: Path, name: str) -> Path | None:
    return next((p / name for p in (folder, folder.absolute().parent) if (p / name).is_file()), None)


def _names_of_folders(training: Path, say: bool) -> dict[str, str]:
    """Name classes by the WordNet ids of the training folders, where no file maps them."""
    folders = [folder.name for folder in list_folders(training)] if training.is_dir() else []
    odd = next((name for name in folders if not _WNID.fullmatch(name)), None)
    if odd is not None or not folders:
        raise DataError(
            f"{training}: {'no class folder' if odd is None else quoted(odd)} where only WordNet ids as n01440764 may "
            f"be; there is no {MAPPING} either, from which classes would come"
        )
    if say:
        log.warning(
            "%s: no %s; classes are these %d folders and their names are WordNet ids: indices are the official ones "
            "only where all 1000 are there",
            training,
            MAPPING,
            len(folders),
        )
    return {name: name for name in folders}


def _read_mapping(path: Path) -> dict[str, str]:
    """Read class names by WordNet id, in the order of their indices."""
    lines: dict[str, str] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        wnid, _, synonyms = line.strip().partition(" ")
        if not wnid:
            continue
        if not _WNID.fullmatch(wnid) or not synonyms.strip():
            raise DataError(f"{path}:{number}: found {quoted(line.strip())}, expected 'n01440764 tench, Tinca tinca'")
        if wnid in lines:
            raise DataError(f"{path}:{number}: {wnid} appears twice")
        lines[wnid] = synonyms.strip()
    if not lines:
        raise DataError(f"{path}: the file is empty; expected a line for each class")
    lines = dict(sorted(lines.items()))
    return dict(zip(lines, _unique_names(lines), strict=True))


def _unique_names(lines: Mapping[str, str]) -> list[str]:
    """Name each class by its first synonym; by its whole line where others share that, with the id if they share both.

    Case makes no difference, as where people name classes: the Cardigan is a dog, the cardigan is not.
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
    """Read the WordNet ids by image name."""
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
                f"{path}:{number}: found {quoted(','.join(row))}, expected an image's name and "
                "'wnid x1 y1 x2 y2' once or more, always of one wnid"
            )
        if row[0] in found:
            raise DataError(f"{path}:{number}: {row[0]} appears twice")
        found[row[0]] = wnids.pop()
    return found


def _files(tree: _Tree) -> tuple[list[tuple[Path, str | None]], Counter[str]]:
    """List image files with the WordNet id of their folder (None outside of class folders), and what is left out."""
    if not tree.images.is_dir():
        raise DataError(f"{tree.images}: no such folder; expected the images of this split")
    files: list[tuple[Path, str | None]] = []
    left_out = Counter[str]()
    for folder in list_folders(tree.images):
        if folder.name not in tree.index:
            raise DataError(f"{folder}: no such class in {tree.classes}; expected a WordNet id from there")
        found = find_image_files(folder)
        files += [(path, folder.name) for path in found.paths]
        left_out += found.left_out
    if not tree.train:
        loose = find_image_files(tree.images, deep=False)
        files += [(path, None) for path in loose.paths]
        left_out += loose.left_out
    return files, left_out


def _read_item(tree: _Tree, path: Path, folder: str | None) -> Item:
    annotation = tree.annotations / (folder or "") / f"{path.stem}.xml"
    if folder and not annotation.is_file():  # those of the validation set lie flat, sorted or not
        annotation = tree.annotations / f"{path.stem}.xml"
    name = name_of_file(path.relative_to(tree.images))
    try:
        wnid, boxes, size = _read_annotation(tree, path, annotation, folder)
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
        size=size,
    )


def _read_annotation(
    tree: _Tree, path: Path, annotation: Path, folder: str | None
) -> tuple[str, list[Box], Size | None]:
    """Read an image's WordNet id, the boxes of its own class, and the size of the image that they were drawn on."""
    try:
        found = read_annotation(annotation)
    except FileNotFoundError:
        found = Annotation([], None, "")
    objects = [(name_of(node), node) for node in found.objects]
    wnid = folder if tree.train and folder else _decide(tree, path, annotation, {n for n, _ in objects if n}, folder)
    # training files may hold boxes of other classes as well, and some of them name a dog in English
    own = [node for name, node in objects if name == wnid or not _WNID.fullmatch(name)]
    return wnid, [box_of(node, annotation, _FIRST_PIXEL) for node in own], found.size


def _decide(tree: _Tree, path: Path, annotation: Path, drawn: set[str], folder: str | None) -> str:
    """Decide a validation image's WordNet id: solution file, boxes and class folder must agree where they exist."""
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
        raise DataError(f"{path}: unknown class, expected a WordNet id of {tree.classes}: {said}")
    return wnid
