"""Lists that say which class a mask's colors or values mean: CVAT's `labelmap.txt`, labelme's `class_names.txt`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agcam.data.batch import IGNORE
from agcam.errors import DataError
from agcam.io.images import read_colors, read_mask
from agcam.io.text import quoted, read_lines

COLORS, VALUES = "labelmap.txt", "class_names.txt"
_BACKGROUND = {"background", "_background_"}
_IGNORED = {"ignored", "ignore", "__ignore__", "void"}
_BLACK, _CREAM = 0, 0xE0E0C0  # what VOC paints background and ignored pixels with


@dataclass(frozen=True)
class LabelMap:
    """What the pixels of a data set's masks mean.

    Attributes:
        path: the file that says so.
        by_color: whether `meaning` goes by color, 0xRRGGBB; by the mask's own values if not.
        meaning: (color or value, class index + 1) pairs in rising order; 0 is background, 255 ignore. Classes that
            are not trained on are background: no pixel of them shows a class that is.
    """

    path: Path
    by_color: bool
    meaning: tuple[tuple[int, int], ...]


def find_label_map(folder: Path, classes: list[str]) -> LabelMap | None:
    """Read the label map of a data set, if there is one.

    Args:
        folder: where it lies.
        classes: names by class index.

    Raises:
        DataError: naming the line that is wrong, or the class that the list lacks.
    """
    path = folder / COLORS
    if path.is_file():
        lines = [_read_color(path, number, line) for number, line in read_lines(path) if not line.startswith("#")]
        named = [(name, color) for name, color in lines if color is not None]
        _expect_all(path, classes, [name for name, _ in named])
        meaning: dict[int, int] = {}
        for name, color in named:
            value = _value_of(name, classes)
            if meaning.setdefault(color, value) != value:
                raise DataError(f"{path}: {quoted(name)} has the color of another label; masks cannot tell them apart")
        meaning = {_BLACK: 0, _CREAM: IGNORE} | meaning
        return LabelMap(path, True, tuple(sorted(meaning.items())))
    path = folder / VALUES
    if not path.is_file():
        return None
    names = [line for _, line in read_lines(path)]
    if not names or names[0].casefold() not in _BACKGROUND:
        return None  # a list of names without masks in mind
    _expect_all(path, classes, names)
    values = {value: _value_of(name, classes) for value, name in enumerate(names)}
    return LabelMap(path, False, tuple(sorted((values | {IGNORE: IGNORE}).items())))


def read_labeled_mask(path: Path, label_map: LabelMap) -> np.ndarray:
    """Read a mask as (H, W) uint8: class index + 1, 0 = background, 255 = ignore.

    Raises:
        DataError: if it cannot be read, or has a color or value that the label map does not name.
    """
    found = read_colors(path) if label_map.by_color else read_mask(path)
    keys, values = (np.array(column) for column in zip(*label_map.meaning, strict=True))
    place = np.searchsorted(keys, found).clip(max=len(keys) - 1)
    if (unknown := keys[place] != found).any():
        value = int(found[unknown][0])
        what = f"color {value >> 16},{value >> 8 & 255},{value & 255}" if label_map.by_color else f"value {value}"
        raise DataError(
            f"{path}: mask {what} is none that {label_map.path} names; add its line there, or leave masks out with "
            "--data.masks false"
        )
    return np.asarray(values[place], dtype=np.uint8)


def nearest(name: str, among: list[str], likeness: float = 0.6) -> str | None:
    """Find the name most like `name`, at least `likeness` in [0, 1], for a question about a misspelling."""
    by_fold = {other.casefold(): other for other in among}
    close = difflib.get_close_matches(name.casefold(), list(by_fold), n=1, cutoff=likeness)
    return by_fold[close[0]] if close else None


def _read_color(path: Path, number: int, line: str) -> tuple[str, int | None]:
    """Read a line's label and color, `name:r,g,b:parts:actions`; a label without color is in no mask."""
    name, _, rest = line.partition(":")
    parts = rest.split(":")[0].replace(" ", "").split(",")
    if name.strip() and ":" in line and parts == [""]:
        return name.strip(), None
    color = [int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 4]
    if not name.strip() or len(color) != 3 or len(parts) != 3 or max(color) > 255:
        raise DataError(f"{path}:{number}: found {quoted(line)}, expected 'cat:128,0,0::', a label and its color")
    return name.strip(), color[0] << 16 | color[1] << 8 | color[2]


def _expect_all(path: Path, classes: list[str], names: list[str]) -> None:
    for name in classes:
        if name not in names:
            close = nearest(name, names)
            raise DataError(
                f"{path}: no line says how masks show {name!r}{f', but one names {close!r}' if close else ''}; add it, "
                "correct --data.classes, or leave masks out with --data.masks false"
            )


def _value_of(name: str, classes: list[str]) -> int:
    if name in classes:
        return classes.index(name) + 1
    return IGNORE if name.casefold() in _IGNORED else 0
