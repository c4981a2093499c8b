"""What an audit found, as `audit.json` holds it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agcam.audit.reliance import Reliance
from agcam.errors import DataError, brief
from agcam.io.json import from_json
from agcam.io.text import quoted

SCHEMA = 1
AUDIT = "audit.json"


@dataclass(frozen=True)
class Group:
    """Looks that are alike, the most suspicious group first.

    Attributes:
        by: "where" for a cluster of heatmaps, "what" for one of the features under them.
        number: of the cluster, as looks.csv names it.
        place: where the heat outside the objects lies, by name, or "spread".
        looks: how many.
        errors: share of the looks whose prediction is wrong.
        outside: mean share of the heat outside the objects; NaN where none is known.
        expected: that share of a map that is as hot everywhere.
        reliance: on what is hot outside the objects, or, where none is known, in the margin.
        suspicious: whether decisions rest on that.
        classes: the most frequent classes, with their share.
        heat: (h, w), the mean map.
        examples: rows of looks.csv, those that rest on it most first.
    """

    by: str
    number: int
    place: str
    looks: int
    errors: float
    outside: float
    expected: float
    reliance: Reliance
    suspicious: bool
    classes: dict[str, float]
    heat: list[list[float]]
    examples: list[int]


@dataclass(frozen=True)
class ClassRow:
    """A class: how many looks for its label, the heat outside its objects, and what rests on that."""

    name: str
    looks: int
    errors: float
    outside: float
    expected: float
    pointing: float
    reliance: Reliance


@dataclass(frozen=True)
class Region:
    """A fixed place that is hot in a class (or in all, where `name` is empty).

    `density` is how many times as hot as the whole image it is, `others` the same in the other classes.
    """

    name: str
    place: str
    density: float
    others: float
    looks: int


@dataclass(frozen=True)
class WrongReason:
    """A look whose prediction is right and whose hottest point lies outside the object."""

    row: int
    index: int
    name: str
    explained: str
    outside: float
    lost: float


@dataclass(frozen=True)
class Audit:
    """All that was found.

    Attributes:
        about: model, data, method, date, versions.
        images: how many were explained.
        looks: how many pairs of an image and a class.
        errors: share of looks whose prediction is wrong.
        known: share of looks whose object is known.
        overall: reliance of all looks.
        suspicious: whether a group or the whole is.
        verdict: the same in a sentence or two.
        groups: the most suspicious first.
        classes: those with the most heat outside first; empty where no object is known.
        regions: the hottest first.
        right: number of looks that are right and whose object is known.
        wrong_reason: number of those whose hottest point lies outside.
        wrong_reasons: the first of these, those that rest on it most first.
        commands: what to run next.
        schema: version of this layout.
    """

    about: dict[str, Any]
    images: int
    looks: int
    errors: float
    known: float
    overall: Reliance
    suspicious: bool
    verdict: str
    groups: list[Group]
    classes: list[ClassRow]
    regions: list[Region]
    right: int
    wrong_reason: int
    wrong_reasons: list[WrongReason]
    commands: list[str]
    schema: int = SCHEMA


def read_json(path: Path) -> Audit:
    """Read `audit.json`.

    Raises:
        DataError: if it is missing, or no audit of this schema.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        schema = found.get("schema") if isinstance(found, dict) else None
        if schema != SCHEMA:
            raise DataError(f"{path}: has schema {quoted(repr(schema))}, this version reads {SCHEMA}; audit again")
        audit: Audit = from_json(Audit, found)
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: not what agcam audit writes ({brief(error)}); audit again") from error
    return audit
