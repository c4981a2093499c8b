"""What folders and lists of a split are called, and dealing images out where there are none."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from agcam.errors import DataError, InputError

VALIDATION = ("val", "valid", "validation")


def same_split(name: str, wanted: str) -> bool:
    """Whether a folder or list is called like a split: in upper or lower case, and validation sets by three names."""
    name, wanted = name.casefold(), wanted.casefold()
    return name == wanted or (name in VALIDATION and wanted in VALIDATION)


def choose_split(names: Iterable[str], wanted: str, where: object) -> str | None:
    """The one of several names that means a split; an exact match first, None if there is none.

    Raises:
        DataError: if several mean it.
    """
    found = sorted(name for name in names if same_split(name, wanted))
    if len(found) > 1 and wanted not in found:
        raise DataError(f"{where}: {' and '.join(found)} may both be the {wanted} set; keep one, or rename the other")
    return wanted if wanted in found else next(iter(found), None)


def check_share(val_share: float) -> float:
    """A share of images for validation.

    Raises:
        InputError: if it leaves none on one side.
    """
    if not 0 < val_share < 1:
        raise InputError(f"val_share must be in (0, 1), found {val_share}")
    return val_share


def hash_fraction(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(os.fsencode(text)).digest()[:4], "big") / 2**32
