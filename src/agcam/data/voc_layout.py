"""Where the files of a data set in VOC format lie, as PASCAL VOC and today's annotation tools lay them out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from agcam.data.splitting import choose_split
from agcam.errors import DataError, brief
from agcam.io.image_files import find_image_files
from agcam.io.images import SUFFIXES

_IMAGES, _ANNOTATIONS = ("jpegimages", "images"), ("annotations",)  # in upper or lower case
OFFICIAL = "VOCdevkit/VOC2012"


@dataclass(frozen=True)
class Tree:
    """Images with their annotations: in folders of their own, or side by side.

    Attributes:
        folder: holds all of it; `SegmentationClass`, `ImageSets` and label maps, too, where there are any.
        images: folder of the images.
        annotations: folder of the XML files.
    """

    folder: Path
    images: Path
    annotations: Path


@dataclass
class FileIndex:
    """The files below a folder by name without suffix, each folder being listed once.

    Args:
        root: the folder.
        suffixes: of the files, in lower case.
    """

    root: Path
    suffixes: Iterable[str]
    _listed: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)

    def find(self, name: str) -> list[Path]:
        """Return the files called `name`, a relative path, and one of the suffixes in upper or lower case."""
        folder, _, stem = name.rpartition("/")
        return self._in(self.root / folder).get(stem, [])

    def _in(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._listed:
            found: dict[str, list[Path]] = {}
            for path in sorted(folder / entry.name for entry in _entries(folder)):
                if path.suffix.lower() in self.suffixes:
                    found.setdefault(path.stem, []).append(path)
            self._listed[folder] = found
        return self._listed[folder]


def image_index(tree: Tree) -> FileIndex:
    """Index the images of a tree."""
    return FileIndex(tree.images, SUFFIXES)


def find_image_sets(root: Path) -> Tree | None:
    """Find the tree with image sets in `root`, or in a `VOCdevkit` there; None if there is none.

    Raises:
        DataError: if it lacks images or annotations.
    """
    devkit = [root / OFFICIAL, *(p for p in _folders(root / "VOCdevkit") if p != root / OFFICIAL)]
    folder = next((p for p in (root, *devkit) if any((p / "ImageSets").glob("**/*.txt"))), None)
    if folder is None:
        return None
    tree = find_tree(folder)
    if tree is None:
        raise DataError(
            f"{folder}: has ImageSets/, but neither Annotations/ and JPEGImages/ nor XML files beside images; "
            f"{describe(folder)}"
        )
    return tree


def find_tree(folder: Path) -> Tree | None:
    """Find the images and XML files in a folder; None if there are none."""
    folders = _folders(folder)
    annotations = _called(folders, _ANNOTATIONS)
    images = _called(folders, _IMAGES)
    if annotations is not None:
        return Tree(folder, folder if images is None else images, annotations)
    if any(entry.name.lower().endswith(".xml") for entry in _entries(folder)):
        return Tree(folder, folder, folder)
    return None


def find_split(root: Path, wanted: str) -> Tree | None:
    """Find a split's tree: its own folder below `root`, or below the folders of images and of annotations alike."""
    for folder in (root, *(path for path in _folders(root) if path.name.casefold() in _ANNOTATIONS)):
        name = choose_split([path.name for path in _folders(folder)], wanted, folder)
        tree = None if name is None else find_tree(folder / name)
        if tree is not None and folder != root:
            images = _called(_folders(root), _IMAGES)
            tree = None if images is None else Tree(root, images / tree.folder.name, tree.folder)
        if tree is not None:
            return tree
    return None


def find_below(root: Path, depth: int = 3, most: int = 300) -> list[Path]:
    """Find the nearest folders below `root` that hold data in VOC format, for a message to whoever named it.

    Args:
        root: holds none itself.
        depth: how many folders deep to look.
        most: how many folders to look at on each level.
    """
    level = [root]
    for _ in range(depth):
        level = [below for folder in level for below in _folders(folder)][:most]
        if found := [folder for folder in level if _fits(folder)]:
            return found
    return []


def _fits(folder: Path) -> bool:
    try:
        return any(
            find(folder) is not None for find in (find_image_sets, find_tree, partial(find_split, wanted="train"))
        )
    except DataError:  # of what nobody has asked for
        return False


def annotated(tree: Tree) -> tuple[list[str], list[str]]:
    """List the names, relative paths without suffix, of all annotations, and of the images that have none."""
    files = tree.annotations.glob("**/*.[xX][mM][lL]")
    names = {_name(path, tree.annotations) for path in files if not path.name.startswith(".")}
    images = {_name(path, tree.images) for path in find_image_files(tree.images).paths}
    return sorted(names), sorted(images - names)


def describe(folder: Path) -> str:
    """List what lies in a folder, for a message."""
    if not folder.is_dir():
        return "there is no such folder"
    folders = [f"{path.name}/" for path in _folders(folder)]
    kinds: dict[str, int] = {}
    for entry in _entries(folder):
        if not entry.is_dir():
            kind = Path(entry.name).suffix.lower() or "without suffix"
            kinds[kind] = kinds.get(kind, 0) + 1
    files = [f"{count} {suffix}" for suffix, count in sorted(kinds.items(), key=lambda pair: -pair[1])]
    return f"found {', '.join([*folders[:8], *files[:5]]) or 'nothing'}"


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _called(folders: Iterable[Path], names: Iterable[str]) -> Path | None:
    return next((path for name in names for path in folders if path.name.casefold() == name), None)


def _folders(folder: Path) -> list[Path]:
    return sorted(folder / entry.name for entry in _entries(folder) if entry.name[0] != "." and entry.is_dir())


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({brief(error)})") from error
