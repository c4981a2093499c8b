"""From the annotations of a data set in VOC format to items: image, boxes, classes and mask of each."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from agcam.data.label_map import LabelMap, find_label_map, nearest, read_labeled_mask
from agcam.data.source import Item
from agcam.data.voc_layout import FileIndex, Tree, annotated, image_index
from agcam.data.voc_sets import Listed
from agcam.data.xml_boxes import Annotation, box_of, name_of, read_annotation
from agcam.errors import DataError
from agcam.io.images import SUFFIXES
from agcam.io.text import quoted

log = logging.getLogger(__name__)
_LIKE = 0.8  # of names this much alike one is misspelt; cat and car are less


@dataclass(frozen=True)
class Wanted:
    """What to take from annotations.

    Attributes:
        classes: names by class index.
        others: whether objects of other classes may occur, and are left out; they are a fault if not.
        difficult: whether objects that are marked difficult count.
        masks: whether masks are used where there are any.
    """

    classes: list[str]
    others: bool
    difficult: bool
    masks: bool


@dataclass(frozen=True)
class _Files:
    annotations: FileIndex
    images: FileIndex
    masks: FileIndex


def read_items(tree: Tree, listed: Sequence[Listed], wanted: Wanted, trees: Sequence[Tree]) -> list[Item]:
    """Read the items of a split. One whose annotation is wrong carries its `fault`; `FileDataset` acts on it.

    Args:
        tree: where the files lie.
        listed: the images of the split.
        wanted: what counts.
        trees: all trees of the data set: a class may occur in another split only.

    Raises:
        DataError: if no annotation has a class of `wanted`, but one of a similar name.
    """
    files = _Files(
        FileIndex(tree.annotations, (".xml",)),
        image_index(tree),
        FileIndex(tree.folder / "SegmentationClass", (".png",)),
    )
    items: list[Item] = []
    objects: list[list[str]] = []
    elsewhere: list[str] = []
    for entry in listed:
        names: list[str] = []
        try:
            item, names, filename = _read_item(files, entry, wanted)
            if filename != item.path.name and (item.path.parent / filename) in files.images.find(
                _stem(entry, filename)
            ):
                elsewhere.append(f"{item.origin} ({item.path.name}, not {filename})")
        except DataError as error:
            item = Item(tree.images / f"{entry.name}.jpg", entry.name, labels=(), fault=str(error))
        items.append(item)
        objects.append(names)
    if elsewhere:
        log.warning(
            "%d annotations name another image in <filename>, which is there as well; each was taken for the image of "
            "its own name, such as %s",
            len(elsewhere),
            elsewhere[0],
        )
    if wanted.others:
        _report_others(tree, items, objects, wanted.classes, trees)
    return _with_masks(tree, items, wanted, trees)


def _stem(entry: Listed, filename: str) -> str:
    """Return the name that an image file beside `entry` has in a `FileIndex`."""
    return (PurePosixPath(entry.name).parent / PurePosixPath(filename).stem).as_posix()


def _read_item(files: _Files, entry: Listed, wanted: Wanted) -> tuple[Item, list[str], str]:
    """Read an item, the class of every object in its annotation, and the name of the image that it gives."""
    path = next(iter(files.annotations.find(entry.name)), files.annotations.root / f"{entry.name}.xml")
    try:
        annotation = read_annotation(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such annotation; the image set names {entry.name}") from None
    names = [name_of(node) for node in annotation.objects]
    boxes, labels = [], []
    for node, name in zip(annotation.objects, names, strict=True):
        if name not in wanted.classes:
            if wanted.others and name:
                continue
            raise DataError(
                f"{path}: unknown class {quoted(name)}; expected one of {', '.join(wanted.classes)}, or set "
                "--data.classes"
            )
        if (node.findtext("difficult") or "0").strip() == "1" and not wanted.difficult:
            continue
        boxes.append(box_of(node, path, first=1))
        labels.append(wanted.classes.index(name))
    item = Item(
        path=_choose_image(files.images, entry, annotation, path),
        name=entry.name,
        labels=tuple(sorted(set(labels))),
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        box_labels=np.array(labels, dtype=np.int64),
        mask=next(iter(files.masks.find(entry.name)), None) if wanted.masks else None,
        origin=path,
        size=annotation.size,
    )
    return item, names, annotation.filename


def _choose_image(images: FileIndex, entry: Listed, annotation: Annotation, path: Path) -> Path:
    """Choose the image file: of the annotation's own name, else what `<filename>` names in the same folder.

    Where several files differ in their suffix only, the image set or `<filename>` must say which one is meant.
    """
    found = images.find(entry.name)
    if not found:  # x.jpg.xml; an annotation that has a name of its own
        names = (PurePosixPath(entry.name).name, annotation.filename)
        likely = [n for n in names if PurePosixPath(n).suffix.lower() in SUFFIXES]
        found = [file for name in likely for file in images.find(_stem(entry, name)) if file.name == name][:1]
    if not found:
        suffixes = ", ".join(sorted(SUFFIXES))
        raise DataError(f"{images.root / entry.name}: no image of that name; {path} annotates it; expected {suffixes}")
    named = [file for file in found if file.name in (entry.file, annotation.filename)]
    chosen = next((file for file in named if file.name == entry.file), None) or next(iter(named), None)
    if chosen is None and len(found) > 1:
        raise DataError(
            f"{path}: may annotate {' or '.join(file.name for file in found)}; name it in <filename>, or move the other"
        )
    return chosen or found[0]


def _report_others(
    tree: Tree, items: Sequence[Item], objects: Sequence[Sequence[str]], classes: list[str], trees: Sequence[Tree]
) -> None:
    """Warn how many objects of other classes are left out; refuse classes that look misspelt."""
    count = Counter(name for names in objects for name in names)
    others = Counter({name: times for name, times in count.items() if name not in classes})
    if not others:
        return
    _check_classes(tree, [name for name in classes if name not in count], classes, trees)
    said = []
    for name, times in others.most_common(10):
        close = nearest(name, classes, _LIKE)
        said.append(f"{quoted(name)} {times}{f' (is {close!r} meant?)' if close else ''}")
    negative = sum(
        not item.labels and any(name in others for name in names) for item, names in zip(items, objects, strict=True)
    )
    log.warning(
        "%s: left out %d objects of %d classes that --data.classes does not name: %s%s; %d of %d images show none of "
        "the classes and stay, as negatives",
        tree.annotations,
        others.total(),
        len(others),
        ", ".join(said),
        ", …" if len(others) > 10 else "",
        negative,
        len(items),
    )


def _check_classes(tree: Tree, missing: list[str], classes: list[str], trees: Sequence[Tree]) -> None:
    """Refuse classes in no annotation that resemble another one; warn of other classes in no annotation."""
    if not missing:
        return
    everywhere = _annotated_classes(trees)
    others = sorted(everywhere - set(classes))
    nowhere = [name for name in missing if name not in everywhere]
    for name in nowhere:
        if close := nearest(name, others, _LIKE):
            raise DataError(
                f"{tree.annotations}: no annotation has the class {name!r} of --data.classes; is {close!r} meant? "
                "Correct it, or leave it out"
            )
    if not everywhere & set(classes):
        raise DataError(
            f"{tree.annotations}: no annotation has a class of --data.classes; found {', '.join(others[:20])}"
        )
    for name in nowhere:
        likely = sorted(others, key=lambda other: other != nearest(name, others))
        log.warning("%s: no annotation has the class %r; others are %s", tree.annotations, name, ", ".join(likely[:5]))


def _annotated_classes(trees: Sequence[Tree]) -> set[str]:
    """Collect the classes of all objects in all annotations that can be read."""
    found = set()
    for tree in trees:
        files = FileIndex(tree.annotations, (".xml",))
        for name in annotated(tree)[0]:
            try:
                objects = read_annotation(files.find(name)[0]).objects
            except (DataError, OSError):
                continue  # opening its split reports it
            found |= {name_of(node) for node in objects}
    return found


def _with_masks(tree: Tree, items: list[Item], wanted: Wanted, trees: Sequence[Tree]) -> list[Item]:
    """Attach the label map to items; drop their masks if the meaning of mask values is unknown."""
    masked = sum(item.mask is not None for item in items)
    if not masked:
        return items
    label_map = find_label_map(tree.folder, wanted.classes)
    if label_map is not None:
        return [_with_label_map(item, label_map) for item in items]
    if wanted.others and (others := _annotated_classes(trees) - set(wanted.classes)):
        log.warning(
            "%s: left out %d masks: their values count classes that --data.classes does not name (%s), and nothing "
            "says which value is which; list them in %s, a line each ('cat:128,0,0::')",
            tree.folder / "SegmentationClass",
            masked,
            ", ".join(sorted(others)[:5]),
            tree.folder / "labelmap.txt",
        )
        return [replace(item, mask=None) for item in items]
    return items


def _with_label_map(item: Item, label_map: LabelMap) -> Item:
    """Attach a label map to an item, or a fault if its mask shows what the label map does not name."""
    if item.mask is None or item.fault is not None:
        return item
    try:
        read_labeled_mask(item.mask, label_map)
    except DataError as error:
        return replace(item, fault=str(error))
    return replace(item, label_map=label_map)
