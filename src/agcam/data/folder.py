"""Photographs in a folder per class: labels without boxes, for data that nobody has annotated."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agcam.data.module import ImageDataModule, Split
from agcam.data.source import FileDataset, Item, OnError
from agcam.data.splitting import check_share, choose_split, hash_fraction
from agcam.errors import DataError
from agcam.io.image_files import ImageFiles, find_image_files, is_clutter, say_left_out
from agcam.io.images import SUFFIXES
from agcam.io.text import name_of_file

log = logging.getLogger(__name__)


class ImageFolderDataModule(ImageDataModule):
    """A folder per class: `train/CLASS/…` and `val/CLASS/…`, and `test/CLASS/…` if there is one.

    `val` may be called `valid` or `validation`, and upper or lower case makes no difference.

    Where `root` holds class folders directly, each image is for training or for validation by a hash of its path
    below `root`: adding or removing images moves no other. Photographs of one scene may then fall on both sides;
    where that matters, make `train/` and `val/` yourself. Without `test`, the validation split is tested on.
    Links to folders are followed; the log counts the files that are not images.

    Args:
        root: folder with `train` and `val`, or with a folder per class. Images may lie deeper in a class folder.
        val_share: share of images for validation where `root` holds class folders directly.
        on_error: "raise" at the first bad image, or "skip" what is bad and say so.
        **kwargs: see `ImageDataModule`.
    """

    def __init__(self, root: str, val_share: float = 0.2, on_error: OnError = "raise", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root).expanduser()
        self.val_share = check_share(val_share)
        self.on_error = on_error
        self._said = ""

    def open(self, split: Split) -> FileDataset:
        """Open a split; class indices are those of the sorted names of the training folders."""
        items, class_names, left_out = read_folder(self.root, split, self.val_share)
        if left_out and left_out != self._said:  # once if two splits share a folder
            self._said = left_out
            log.warning(left_out)
        return FileDataset(items, class_names, multilabel=False, on_error=self.on_error)


def read_folder(root: Path, split: Split, val_share: float = 0.2) -> tuple[list[Item], list[str], str]:
    """Read the items and class names of a split, and a line on the files that were left out, if any.

    Raises:
        DataError: naming the folder that is missing, empty, or of no known class.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected train/ and val/ with a folder per class, or those directly")
    own = any(list_folders(p) for p in list_folders(root) if p.name.casefold() in ("train", "val"))
    training = _own_folder(root, "train") if own else root
    files = {folder.name: find_image_files(folder) for folder in list_folders(training)}
    _check_classes(training, files)
    chosen = _own_folder(root, split) if own else root
    if chosen != training:
        unknown = next((folder for folder in list_folders(chosen) if folder.name not in files), None)
        if unknown is not None:
            raise DataError(f"{unknown}: no such class in {training}; expected one of {', '.join(files)}")
        files = {name: find_image_files(chosen / name) for name in files}
    items = [
        Item(path, name_of_file(path.relative_to(chosen)), labels=(label,))
        for label, found in enumerate(files.values())
        for path in (found.paths if own else _share(root, found.paths, split == "train", val_share))
    ]
    left_out = sum((found.left_out for found in files.values()), Counter[str]())
    if not items:
        what = "expected a folder per class" if own else f"--data.val_share {val_share} leaves none for this split"
        raise DataError(
            f"{chosen}: no image to {'train on' if split == 'train' else 'validate on'}; {what}{_but(left_out)}"
        )
    return items, list(files), f"{chosen}: {say_left_out(left_out)}" if left_out else ""


def list_folders(folder: Path) -> list[Path]:
    """List the folders in a folder by name, without hidden ones and those that systems leave.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not is_clutter(p.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error})") from error


def _check_classes(training: Path, files: Mapping[str, ImageFiles]) -> None:
    if len(files) < 2:
        found = f"only {next(iter(files))}/" if files else "none"
        raise DataError(f"{training}: expected a folder for each of two or more classes, found {found}")
    empty = next((name for name, found in files.items() if not found.paths), None)
    if empty is not None:
        raise DataError(
            f"{training / empty}: no image in this class folder; add some ({', '.join(sorted(SUFFIXES))}) or remove "
            f"it{_but(files[empty].left_out)}"
        )
    odd = next((name for name in files if name_of_file(Path(name)) != name), None)
    if odd is not None:
        where = name_of_file(training / odd)
        raise DataError(f"{where}: the folder's name is no UTF-8, and a class needs one; rename it")


def _but(left_out: Counter[str]) -> str:
    return f" ({say_left_out(left_out)})" if left_out else ""


def _own_folder(root: Path, split: Split) -> Path:
    names = [folder.name for folder in list_folders(root)]
    name = choose_split(names, split, root)
    if name is None and split == "test":
        name = choose_split(names, "val", root)
    folder = root / (name or split)
    if name is None:
        raise DataError(
            f"{folder}: no such folder; add it, or put the class folders into {root} and --data.val_share of them are "
            "set aside"
        )
    return folder


def _share(root: Path, paths: list[Path], train: bool, val_share: float) -> list[Path]:
    """Choose a class's images on one side of the split; at least one of each class is for training."""
    hashes = {path: hash_fraction(path.relative_to(root).as_posix()) for path in paths}
    highest = max(hashes, key=lambda path: hashes[path])
    return [path for path, drawn in hashes.items() if (drawn >= val_share or path == highest) == train]
