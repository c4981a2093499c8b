"""Recognize the folders and lists of a split, and split images by a hash where there are none."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from agcam.errors import DataError, InputError

VALIDATION = ("val", "valid", "validation")


def same_split(name: str, wanted: str) -> bool:
    """Return whether a name means a split: case is ignored, and validation sets have three names."""
    name, wanted = name.casefold(), wanted.casefold()
    return name == wanted or (name in VALIDATION and wanted in VALIDATION)


def choose_split(names: Iterable[str], wanted: str, where: object) -> str | None:
    """Choose the name that means a split; an exact match first, None if there is none.

    Raises:
        DataError: if several mean it.
    """
    found = sorted(name for name in names if same_split(name, wanted))
    if len(found) > 1 and wanted not in found:
        raise DataError(f"{where}: {' and '.join(found)} may both be the {wanted} set; keep one, or rename the other")
    return wanted if wanted in found else next(iter(found), None)


def check_share(val_share: float) -> float:
    """Check a share of images for validation, and return it.

    Raises:
        InputError: if it is not between 0 and 1.
    """
    if not 0 < val_share < 1:
        raise InputError(f"val_share must be in (0, 1), found {val_share}")
    return val_share


def hash_fraction(text: str) -> float:
    """Hash a text to a number in [0, 1)."""
    return int.from_bytes(hashlib.sha256(os.fsencode(text)).digest()[:4], "big") / 2**32
