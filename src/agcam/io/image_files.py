"""Find image files in folders by suffix or content, also behind links, and count what is left out."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agcam.errors import DataError
from agcam.io.images import SUFFIXES

_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8")  # not TIFF: cameras' raw files begin so, too
_UNREADABLE = (
    *(".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k", ".jpx", ".psd", ".svg", ".eps", ".ico", ".tga", ".raw"),
    *(".dng", ".nef", ".cr2", ".cr3", ".arw", ".raf", ".orf", ".rw2"),
)
OWN_PICTURE = "own picture"
_WHY = {
    "broken link": "leads nowhere",
    "looping link": "leads to a folder around it",
    "special file": "a device or pipe",
    OWN_PICTURE: "agcam images wrote it",
    **dict.fromkeys(_UNREADABLE, "cannot be read: convert to JPEG"),
}
_CLUTTER = {  # what systems leave in folders
    "__macosx",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "@eadir",
    "lost+found",
    "$recycle.bin",
    "system volume information",
}


@dataclass(frozen=True)
class ImageFiles:
    """The image files of a folder.

    Attributes:
        paths: sorted, each below the folder as it was given, also where a link leads elsewhere.
        left_out: how many files and links are no images, by kind, hidden and system files excluded.
    """

    paths: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def find_image_files(folder: Path, deep: bool = True) -> ImageFiles:
    """Find the image files in a folder, and in those below it if `deep`; none if there is no such folder.

    An image has one of our suffixes, or another and the first bytes of a JPEG, PNG, GIF or WebP. Links are followed,
    each folder once, except those that lead to a folder around this one.

    Raises:
        DataError: naming a folder that cannot be read.
    """
    found = ImageFiles()
    found.paths.extend(walk_image_files(folder, found.left_out, deep))
    found.paths.sort()
    return found


def walk_image_files(
    folder: Path, left_out: Counter[str], deep: bool = True, but: Path | None = None
) -> Iterator[Path]:
    """Yield what `find_image_files` finds folder by folder, in an order that depends on names alone.

    Only the names of one folder are held at a time.

    Args:
        folder: where to look.
        left_out: counts what is no image, by kind.
        deep: whether to look in folders below it, too.
        but: a folder that is not looked into.

    Raises:
        DataError: naming a folder that cannot be read.
    """
    if not folder.is_dir():
        return
    start = os.path.realpath(folder)
    seen = set[str]() if but is None else {os.path.realpath(but)}
    waiting = deque([(folder, start)])
    links: deque[tuple[Path, str]] = deque()
    while waiting or links:  # links last, so that a folder that is reached both ways has its own name
        here, real = waiting.popleft() if waiting else links.popleft()
        if real in seen:
            continue
        seen.add(real)
        for entry in _entries(here):
            path = here / entry.name
            if not entry.is_dir():
                kind = _kind_if_no_image(entry, path)
                if kind is None:
                    yield path
                else:
                    left_out[kind] += 1
            elif not deep:
                continue
            elif not _is_link(entry):
                waiting.append((path, os.path.join(real, entry.name)))  # noqa: PTH118  # text, as realpath gives it
            elif _lies_in(start, target := os.path.realpath(path)):
                left_out["looping link"] += 1
            else:
                links.append((path, target))


def say_left_out(left_out: Counter[str]) -> str:
    """Describe what was left out: "left out 4 files: 3 .heic (cannot be read: convert to JPEG), 1 .txt"."""
    kinds = [
        f"{count} {kind}{'' if count == 1 or kind.startswith('.') else 's'}{f' ({_WHY[kind]})' if kind in _WHY else ''}"
        for kind, count in sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    ]
    more = f" and {len(kinds) - 8} more kinds" if len(kinds) > 8 else ""
    count = left_out.total()
    return f"left out {count} file{'' if count == 1 else 's'}: {', '.join(kinds[:8])}{more}"


def is_clutter(name: str) -> bool:
    """Return whether a file or folder is hidden, or one that systems leave in folders."""
    return name.startswith(".") or name.lower() in _CLUTTER


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not is_clutter(e.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error})") from error


def _is_link(entry: os.DirEntry[str]) -> bool:
    """Return whether it is a link or, on Windows, a junction."""
    return entry.is_symlink() or getattr(entry, "is_junction", lambda: False)()  # Python 3.12 has it


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _kind_if_no_image(entry: os.DirEntry[str], path: Path) -> str | None:
    """Return None for an image file, else the kind to count it under."""
    if not entry.is_file():
        return "broken link" if entry.is_symlink() else "special file"
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or _begins_as_image(path):
        return None
    return suffix if suffix[1:].isascii() and suffix[1:].isalnum() and len(suffix) <= 10 else "other file"


def _begins_as_image(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:  # whatever it is, it has no image's suffix
        return False
    return start.startswith(_STARTS) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")
