"""Which images of a data set in VOC format a split holds: by its image sets, by its folders, or dealt out."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from agcam.data.module import Split
from agcam.data.splitting import VALIDATION, choose_split, hash_fraction, same_split
from agcam.data.voc_layout import (
    FileIndex,
    Tree,
    annotated,
    describe,
    find_below,
    find_image_sets,
    find_split,
    find_tree,
    image_index,
)
from agcam.data.xml_boxes import read_annotation
from agcam.errors import DataError
from agcam.io.images import SUFFIXES
from agcam.io.text import inside, quoted, read_lines

log = logging.getLogger(__name__)
_FLAG = re.compile(r"(.*\S)\s+(?:-1|0|1)")  # sets of one class say whether an image shows it
_QUOTED = re.compile(r'"([^"]+)"(?:\s+(?:-1|0|1))?')  # CVAT's way with names that hold spaces
_SPLITS = ("train", *VALIDATION, "test", "trainval")


@dataclass(frozen=True)
class Listed:
    """An image of a split.

    Attributes:
        name: path without suffix, below the folders of images and of annotations.
        file: name of the image file, where the list gives its suffix.
    """

    name: str
    file: str | None = None


@dataclass(frozen=True)
class Sets:
    """Which images to take.

    Attributes:
        train: name of the image set, or folder, to train on.
        val: … to validate on.
        test: … to test on; None takes the folder `test` where splits are folders, else what `val` is.
        val_share: share of images for validation where neither image sets nor folders part them.
    """

    train: str
    val: str
    test: str | None
    val_share: float

    def wanted(self, split: Split) -> str:
        """Return the name of a split's image set."""
        return {"train": self.train, "val": self.val, "test": self.test or self.val}[split]

    @property
    def ordinary(self) -> bool:
        """Whether the sets have their default names: only then may images be dealt out."""
        return same_split(self.train, "train") and same_split(self.val, "val") and self.test is None


def list_split(root: Path, split: Split, sets: Sets) -> tuple[Tree, list[Listed]]:
    """List the images of a split, and find where they lie.

    Raises:
        DataError: if there is no data set, or it does not say which images belong to the split.
    """
    tree = find_image_sets(root)
    if tree is not None:
        return tree, _read_image_sets(tree, split, sets)
    if any(find_split(root, name) for name in {sets.train, sets.val, "train", "val"}):
        return _list_folder(root, split, sets)
    tree = find_tree(root)
    if tree is None:
        if below := find_below(root):
            raise DataError(
                f"{root}: no VOC data here, but below it; name one: --data.root {' or '.join(map(str, below[:5]))}"
            )
        raise DataError(
            f"{root}: no VOC data here; expected Annotations/, ImageSets/ and JPEGImages/, images with an XML file "
            "each, or train/ and val/ of such, or pass --data.download true; " + describe(root)
        )
    if not sets.ordinary:
        raise DataError(
            f"{root}: has no image sets, so none is called {sets.wanted(split)}; leave --data.train_set, val_set and "
            "test_set out, and --data.val_share of the images are validated on"
        )
    names = _annotated(tree, split)
    return tree, _deal([Listed(name) for name in names], tree.folder, split, sets.val_share)


def all_trees(root: Path, sets: Sets) -> list[Tree]:
    """Find all trees of a data set."""
    tree = find_image_sets(root)
    names = dict.fromkeys([sets.train, sets.val, sets.test or "test"])
    splits = [] if tree else [found for name in names if (found := find_split(root, name))]
    return splits or [found for found in (tree or find_tree(root),) if found]


def _list_folder(root: Path, split: Split, sets: Sets) -> tuple[Tree, list[Listed]]:
    own = find_split(root, "test") if split == "test" and sets.test is None else None
    wanted = sets.wanted(split)
    tree = own or find_split(root, wanted)
    if tree is None:
        names = " or ".join(f"{name}/" for name in (VALIDATION if wanted in VALIDATION else (wanted,)))
        raise DataError(
            f"{root}: no annotated images in {names}; add them, name another folder with --data.{split}_set, or let "
            f"--data.root be a folder of images that are to be parted by --data.val_share; {describe(root)}"
        )
    return tree, [Listed(name) for name in _annotated(tree, split)]


def _annotated(tree: Tree, split: Split) -> list[str]:
    """List the annotated images of a tree without image sets. Others are left out: they are no negatives."""
    names, bare = annotated(tree)
    if not names:
        raise DataError(f"{tree.annotations}: no annotation; expected an XML file for each image")
    images = image_index(tree)
    if bare and split == "train":
        named = {_filename(tree, name) for name in names if not images.find(name)}
        bare = [name for name in bare if not named & {path.name for path in images.find(name)}]
    if bare and split == "train":
        log.warning("%s: left out %d images without annotation, such as %s", tree.images, len(bare), bare[0])
    return names


def _filename(tree: Tree, name: str) -> str:
    try:
        return read_annotation(FileIndex(tree.annotations, (".xml",)).find(name)[0]).filename
    except (DataError, OSError):
        return ""  # whoever reads it for its boxes reports it


def _read_image_sets(tree: Tree, split: Split, sets: Sets) -> list[Listed]:
    wanted, known = sets.wanted(split), _known(tree)
    folder = tree.folder / "ImageSets"
    if "/" in wanted:
        return _read_list(folder / f"{inside(wanted, '--data.' + split + '_set')}.txt", known)
    folders = [folder / "Main", folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    folder = next(path for path in [*folders, folder] if path == folder or any(path.glob("*.txt")))
    names = sorted(path.stem for path in folder.glob("*.txt"))
    if (name := choose_split(names, wanted, folder)) is not None:
        return _read_list(folder / f"{name}.txt", known)
    of_one_class = [name for name in names if _is_of_one_class(name, names)]
    parts = [name for name in of_one_class if same_split(name.rpartition("_")[2], wanted)]
    if parts:  # VoTT writes no other: each names all images of the split
        listed = [entry for name in parts for entry in _read_list(folder / f"{name}.txt", known)]
        return list(dict.fromkeys(listed))
    whole = [name for name in names if name not in of_one_class]
    if len(whole) == 1 and sets.ordinary and not any(same_split(whole[0], name) for name in _SPLITS[:-1]):
        listing = folder / f"{whole[0]}.txt"
        return _deal(_read_list(listing, known), listing, split, sets.val_share)
    raise DataError(
        f"{folder / wanted}.txt: no such image set; there are: {', '.join(names) or 'none'}; name one of them with "
        f"--data.{split}_set"
    )


def _is_of_one_class(name: str, names: Sequence[str]) -> bool:
    return "_" in name and any(same_split(name.rpartition("_")[2], other) for other in (*_SPLITS, *names))


def _read_list(listing: Path, known: Callable[[str], Listed | None]) -> list[Listed]:
    try:
        lines = list(read_lines(listing))
    except FileNotFoundError:
        found = ", ".join(sorted(p.stem for p in listing.parent.glob("*.txt"))) or "none"
        raise DataError(f"{listing}: no such image set; there are: {found}") from None
    if not lines:
        raise DataError(f"{listing}: the image set is empty; expected an image name a line")
    flagged = all(_FLAG.fullmatch(line) or _QUOTED.fullmatch(line) for _, line in lines)
    return [_read_line(line, f"{listing}:{number}", known, flagged) for number, line in lines]


def _read_line(line: str, where: str, known: Callable[[str], Listed | None], flagged: bool) -> Listed:
    """Find the image that a line names: the line without its flag, unless only the whole line is an image's name."""
    if named := _QUOTED.fullmatch(line):
        return known(inside(named[1], where)) or Listed(named[1])
    found = _FLAG.fullmatch(line)
    if found is None:
        return known(inside(line, where)) or Listed(line)
    short, whole = known(inside(found[1], where)), known(line)
    if short and whole and flagged:
        raise DataError(
            f"{where}: {quoted(line)} may be the image of that name, or {quoted(found[1])} with a flag; put the name "
            'in double quotes: "…"'
        )
    return whole or short or Listed(found[1])


def _known(tree: Tree) -> Callable[[str], Listed | None]:
    """Return a function that finds the image a text names, with or without suffix; None if there is none."""
    images, annotations = image_index(tree), FileIndex(tree.annotations, (".xml",))

    def look_up(text: str) -> Listed | None:
        if images.find(text) or annotations.find(text):
            return Listed(text)
        path = PurePosixPath(text)
        if path.suffix.lower() not in SUFFIXES:
            return None
        stem = path.with_suffix("").as_posix()
        return Listed(stem, path.name) if images.find(stem) or annotations.find(stem) else None

    return look_up


def _deal(listed: list[Listed], where: Path, split: Split, val_share: float) -> list[Listed]:
    """Choose the images on one side of a split by a hash of their names: adding or removing some moves no other."""
    hashes = {entry: hash_fraction(entry.name) for entry in listed}
    highest = max(hashes, key=lambda entry: hashes[entry])
    train = split == "train"
    chosen = [entry for entry in listed if (hashes[entry] >= val_share or entry == highest) == train]
    if not chosen:
        raise DataError(f"{where}: {len(listed)} images, and --data.val_share {val_share} leaves none for this split")
    if train:
        log.warning(
            "%s: nothing parts the images, so %d of %d are validated on, by a hash of their names (--data.val_share)",
            where,
            len(listed) - len(chosen),
            len(listed),
        )
    return chosen
