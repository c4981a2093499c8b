"""What a report is made of, whatever folder it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from agcam.io.explained_images import ExplainedImage
from agcam.metrics.classification.by_class import ClassFigures
from agcam.report.glossary import Word


def percent(share: float) -> str:
    """Write a share in [0, 1] as a percentage."""
    rounded = round(100 * share, 1) or 0.0  # not -0.0
    return f"{rounded:.1f}\N{NO-BREAK SPACE}%"


@dataclass(frozen=True)
class Fact:
    """A line of the header: a label, its value, and, where needed, what it means."""

    label: str
    value: str
    help: str = ""


@dataclass(frozen=True)
class Cell:
    """A value of the table: its text, its interval, and whether it is the best."""

    text: str
    interval: str = ""
    best: bool = False


@dataclass(frozen=True)
class Line:
    """A row of the table: a value by method."""

    label: str
    help: str
    arrow: str
    cells: list[Cell]


@dataclass(frozen=True)
class Part:
    """Rows under one heading."""

    title: str
    lines: list[Line]


@dataclass(frozen=True)
class Table:
    """Values by method.

    Attributes:
        methods: label and meaning of each column.
        parts: the rows.
        notes: sentences beneath it.
    """

    methods: list[tuple[str, str]]
    parts: list[Part]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Series:
    """A line of a chart; `control` lines are drawn faintly."""

    label: str
    x: list[float]
    y: list[float]
    control: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart: title, meaning, axes, lines. `epochs` says that x counts epochs, which the page's slider marks."""

    title: str
    help: str
    x: str
    lines: list[Series]
    unit: bool = False
    epochs: bool = False


@dataclass(frozen=True)
class Frame:
    """A step of the gallery's slider: its label, its epoch, and the explained images."""

    label: str
    epoch: int | None
    shown: Sequence[ExplainedImage]


@dataclass(frozen=True)
class Link:
    """A file beside the report, and what it holds."""

    path: Path
    what: str


@dataclass(frozen=True)
class Example:
    """A picture of an audit: a data URI, what it shows, and what the model made of it."""

    source: str
    name: str
    said: str


@dataclass(frozen=True)
class AuditGroup:
    """A group of images of an audit: its title, whether it is suspicious, facts, its mean map, examples."""

    title: str
    suspicious: bool
    facts: list[Fact]
    heat: str
    examples: list[Example]


@dataclass(frozen=True)
class AuditTable:
    """A table of an audit: title, meaning, heads, rows of texts, and what is said where there are none."""

    title: str
    help: str
    heads: list[str]
    rows: list[list[str]]
    empty: str


@dataclass(frozen=True)
class AuditPart:
    """What a page says of an audit.

    Attributes:
        verdict: whether anything is suspicious, in a sentence or two.
        suspicious: the same.
        commands: what to run next.
        groups: the most suspicious first.
        tables: classes, regions.
        reasons: images that are right for the wrong reason.
        reasons_said: how many there are.
    """

    verdict: str
    suspicious: bool
    commands: list[str]
    groups: list[AuditGroup]
    tables: list[AuditTable]
    reasons: list[Example]
    reasons_said: str


@dataclass(frozen=True)
class Report:
    """All that the page shows.

    Attributes:
        kind: what the folder holds.
        title: of the page.
        facts: the header.
        frames: the gallery, one entry for each epoch where there are several.
        empty: why there is no gallery, where there is none.
        table: values by method, or None.
        charts: curves.
        links: raw files.
        fill: the color (R, G, B) of removed pixels.
        notes: sentences for the gallery.
        words: by value, its name and meaning, where the folder holds them.
        classes: figures class by class, or None.
        settings: of a run, by section: name and value of each.
        audit: what an audit found, or None.
    """

    kind: Literal["run", "benchmark", "images", "audit"]
    title: str
    facts: list[Fact]
    frames: list[Frame] = field(default_factory=list)
    empty: str = ""
    table: Table | None = None
    charts: list[Chart] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    fill: tuple[int, int, int] = (124, 116, 104)
    notes: list[str] = field(default_factory=list)
    words: dict[str, Word] = field(default_factory=dict)
    classes: ClassFigures | None = None
    settings: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    audit: AuditPart | None = None
