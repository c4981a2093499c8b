"""The folders of a run's explained epochs, counted from 1; those of older versions, which counted from 0."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from agcam.errors import DataError, brief
from agcam.io.atomic import write_whole
from agcam.io.explained_images import PANEL

COUNTED = {"counted_from": 1}
"""What the `info` of a panel says where its epochs are counted from 1."""
_FOLDER = re.compile(r"(val|test)_epoch_(\d+)")


def epoch_folder(stage: str, epoch: int) -> str:
    """Return the name of an epoch's folder."""
    return f"{stage}_epoch_{epoch:03d}"


def find_epochs(folder: Path) -> list[tuple[str, int, Path]]:
    """Return stage, number and folder of each epoch, by number; some may be half written."""
    found = [(match, path) for path in folder.glob("*_epoch_*") if (match := _FOLDER.fullmatch(path.name))]
    return sorted(((match[1], int(match[2]), path) for match, path in found), key=lambda entry: entry[1])


def true_epoch(number: int, info: dict[str, Any]) -> int:
    """Return the epoch, counted from 1, of a folder with this number and a panel with this `info`."""
    return number if info.get("counted_from") == 1 or "epoch" not in info else number + 1


def count_from_one(folder: Path) -> None:
    """Rename the epochs of an older version in a run's `explanations`, so that a resumed run does not mix both counts.

    An interrupted call is finished by the next one.

    Raises:
        DataError: if a name is taken, or a panel cannot be read.
    """
    for stage, number, path in reversed(find_epochs(folder)):
        panel = path / PANEL
        if not panel.is_file():
            continue
        try:
            found = json.loads(panel.read_bytes())
            info = dict(found["info"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{panel}: not a panel ({brief(error)}); delete its folder to resume the run") from error
        if info.get("counted_from") == 1 or not isinstance(info.get("epoch"), int):
            continue
        if info["epoch"] == number:
            target = folder / epoch_folder(stage, number + 1)
            if target.exists():
                raise DataError(
                    f"{target} is in the way: {path.name} was written when epochs counted from 0 and is to be renamed; "
                    "delete it, or resume into another folder"
                )
            path.rename(target)
            panel = target / PANEL
        found["info"] = info | {"epoch": info["epoch"] + 1} | COUNTED
        write_whole(panel, json.dumps(found, allow_nan=False).encode("ascii"))
