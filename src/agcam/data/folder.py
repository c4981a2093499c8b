"""Photographs in a folder per class: labels without boxes, for data that nobody has annotated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agcam.data.images import SUFFIXES
from agcam.data.listing import name_of_file
from agcam.data.module import ImageDataModule, Split
from agcam.data.source import FileSource, Item, OnError
from agcam.data.splitting import check_share, choose_split, draw
from agcam.errors import DataError


class ImageFolder(ImageDataModule):
    """A folder per class: `train/CLASS/…` and `val/CLASS/…`, and `test/CLASS/…` if there is one.

    `val` may be called `valid` or `validation`, and upper or lower case makes no difference.

    Where `root` holds class folders directly, each image is for training or for validation by a hash of its path
    below `root`: adding or removing images moves no other. Photographs of one scene may then fall on both sides;
    where that matters, make `train/` and `val/` yourself. Without a test split of its own, it is the validation split.

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

    def open(self, split: Split) -> FileSource:
        """Open a split; class indices are those of the sorted names of the training folders."""
        items, class_names = read_folder(self.root, split, self.val_share)
        return FileSource(items, class_names, multilabel=False, on_error=self.on_error)


def read_folder(root: Path, split: Split, val_share: float = 0.2) -> tuple[list[Item], list[str]]:
    """The items and class names of a split.

    Raises:
        DataError: naming the folder that is missing, empty, or of no known class.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected train/ and val/ with a folder per class, or those directly")
    own = any(list_folders(p) for p in list_folders(root) if p.name.casefold() in ("train", "val"))
    training = _own_folder(root, "train") if own else root
    class_names = _class_names(training)
    chosen = _own_folder(root, split) if own else root
    unknown = [folder for folder in list_folders(chosen) if folder.name not in class_names]
    if unknown:
        raise DataError(f"{unknown[0]}: no such class in {training}; expected one of {', '.join(class_names)}")
    items = [
        Item(path, name_of_file(path.relative_to(chosen)), labels=(label,))
        for label, name in enumerate(class_names)
        for path in (list_images(chosen / name) if own else _share(root, name, split == "train", val_share))
    ]
    if not items:
        what = "expected a folder per class" if own else f"--data.val_share {val_share} leaves none for this split"
        raise DataError(f"{chosen}: no image to {'train on' if split == 'train' else 'validate on'}; {what}")
    return items, class_names


def list_folders(folder: Path) -> list[Path]:
    """The folders in a folder by name, hidden ones left out.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error})") from error


def list_images(folder: Path, deep: bool = True) -> list[Path]:
    """The image files in a folder, and in those below it if `deep`, by path; none if there is no such folder."""
    return sorted(p for p in folder.glob("**/*" if deep else "*") if p.suffix.lower() in SUFFIXES and p.is_file())


def _class_names(training: Path) -> list[str]:
    folders = list_folders(training)
    if len(folders) < 2:
        found = f"only {folders[0].name}/" if folders else "none"
        raise DataError(f"{training}: expected a folder for each of two or more classes, found {found}")
    empty = next((folder for folder in folders if not list_images(folder)), None)
    if empty is not None:
        raise DataError(
            f"{empty}: no image in this class folder; add some ({', '.join(sorted(SUFFIXES))}) or remove it"
        )
    odd = next((folder for folder in folders if name_of_file(folder) != folder.as_posix()), None)
    if odd is not None:
        raise DataError(f"{name_of_file(odd)}: the folder's name is no UTF-8, and a class needs one; rename it")
    return [folder.name for folder in folders]


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


def _share(root: Path, name: str, train: bool, val_share: float) -> list[Path]:
    """A class's images on one side of the split; one of each class is for training whatever the hashes."""
    draws = {path: draw(path.relative_to(root).as_posix()) for path in list_images(root / name)}
    highest = max(draws, key=lambda path: draws[path])
    return [path for path, drawn in draws.items() if (drawn >= val_share or path == highest) == train]
