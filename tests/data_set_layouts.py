"""Write a data set in the layout of CUB-200-2011 or PASCAL VOC, to test with."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from agcam.data.batch import IGNORE, Example
from agcam.data.source import ExampleDataset
from agcam.errors import InputError


def write_cub(splits: Mapping[str, ExampleDataset], root: Path) -> None:
    """Write a single-label data set as a CUB tree, with segmentations.

    Args:
        splits: "train" and "test".
        root: the folder that becomes `CUB_200_2011`.
    """
    _expect(splits, {"train", "test"}, multilabel=False)
    names = splits["train"].class_names
    folders = [f"{i + 1:03d}.{name.replace(' ', '_')}" for i, name in enumerate(names)]
    tables: dict[str, list[str]] = {
        "classes": [f"{i + 1} {folder}" for i, folder in enumerate(folders)],
        "images": [],
        "image_class_labels": [],
        "bounding_boxes": [],
        "train_test_split": [],
    }
    for number, (split, example) in enumerate(_all(splits), start=1):
        if example.boxes is None or not len(example.boxes):
            raise InputError(f"{example.name}: CUB has one box for each image, found none")
        label = example.labels[0]
        path = f"{folders[label]}/{example.name}.jpg"
        left, top = example.boxes[:, :2].min(0)
        right, bottom = example.boxes[:, 2:].max(0)
        tables["images"].append(f"{number} {path}")
        tables["image_class_labels"].append(f"{number} {label + 1}")
        tables["bounding_boxes"].append(f"{number} {left:.1f} {top:.1f} {right - left:.1f} {bottom - top:.1f}")
        tables["train_test_split"].append(f"{number} {int(split == 'train')}")
        _save(example.image, root / "images" / path)
        if example.mask is not None:
            gray = np.where(example.mask > 0, 255, 0).astype(np.uint8)
            _save(gray, root / "segmentations" / Path(path).with_suffix(".png"))
    for name, lines in tables.items():
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_voc(splits: Mapping[str, ExampleDataset], root: Path) -> None:
    """Write a data set as a VOC tree: boxes as XML, masks as palette images, one image set for each split.

    Args:
        splits: by the name of their image set.
        root: the folder that becomes `VOC2012`.
    """
    _expect(splits, set(splits), multilabel=None)
    listing: dict[str, list[str]] = {split: [] for split in splits}
    masked: dict[str, list[str]] = {split: [] for split in splits}
    for split, example in _all(splits):
        names = splits[split].class_names
        _save(example.image, root / "JPEGImages" / f"{example.name}.jpg")
        tree = ET.ElementTree(_annotation(example, names))
        path = root / "Annotations" / f"{example.name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        tree.write(path)
        listing[split].append(example.name)
        if example.mask is not None:
            palette = Image.fromarray(example.mask.astype(np.uint8), mode="P")
            palette.putpalette([c for i in range(256) for c in _color(i)])
            target = root / "SegmentationClass" / f"{example.name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            palette.save(target)
            masked[split].append(example.name)
    for folder, sets in (("Main", listing), ("Segmentation", masked)):
        for split, lines in sets.items():
            path = root / "ImageSets" / folder / f"{split}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _annotation(example: Example, names: list[str]) -> ET.Element:
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = f"{example.name}.jpg"
    size = ET.SubElement(root, "size")
    for tag, value in zip(("width", "height", "depth"), (*example.image.shape[1::-1], 3), strict=True):
        ET.SubElement(size, tag).text = str(value)
    if example.boxes is None or example.box_labels is None:
        return root
    for box, label in zip(example.boxes, example.box_labels, strict=True):
        node = ET.SubElement(root, "object")
        ET.SubElement(node, "name").text = names[label]
        ET.SubElement(node, "difficult").text = "0"
        corners = ET.SubElement(node, "bndbox")
        # VOC counts pixels from 1 and includes both ends
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), (*(box[:2] + 1), *box[2:]), strict=True):
            ET.SubElement(corners, tag).text = str(int(value))
    return root


def _expect(splits: Mapping[str, ExampleDataset], names: set[str], multilabel: bool | None) -> None:
    if set(splits) != names or (multilabel is not None and any(s.multilabel != multilabel for s in splits.values())):
        kind = {None: "", True: " multi-label", False: " single-label"}[multilabel]
        raise InputError(f"expected{kind} splits {sorted(names)}, found {sorted(splits)}")


def _all(splits: Mapping[str, ExampleDataset]) -> Iterator[tuple[str, Example]]:
    for split, source in splits.items():
        for index in range(len(source)):
            yield split, source[index]


def _save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)


def _color(index: int) -> tuple[int, int, int]:
    """Choose a palette color that tells neighboring indices apart; ignored pixels are cream, as in VOC."""
    if index == IGNORE:
        return 224, 224, 192
    return (index * 67) % 256, (index * 131) % 256, (index * 199) % 256
