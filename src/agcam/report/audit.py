"""Read the output of `agcam audit` into a report."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from agcam.audit.findings import AUDIT, Audit, Group, read_json
from agcam.audit.reliance import Reliance
from agcam.audit.write import REASONS, shown_rows
from agcam.errors import DataError
from agcam.io.explained_images import ExplainedImage, read_panel
from agcam.report.benchmark import read_fill
from agcam.report.encode import data_uri
from agcam.report.facts import About, facts_of
from agcam.report.model import AuditGroup, AuditPart, AuditTable, Example, Fact, Frame, Link, Report, percent
from agcam.visualization.overlay import draw_boxes, draw_outlines, overlay

_SIDE, _GROUPS, _ROWS = 196, 8, 40
_FILES = {AUDIT: "everything, for programs", "looks.csv": "every explained image and class", "panel": "the examples"}
_RESTS = (
    "How much of the class's probability is lost when the hottest patches outside the object (without boxes: in the "
    "margin of the image) are hidden, beyond what is lost when as many others there are. In brackets the 95 % interval."
)


def audit_report(folder: Path) -> Report:
    """Read an audit's folder.

    Raises:
        DataError: if a file is missing or broken, with its name.
    """
    audit = read_json(folder / AUDIT)
    panel, info = read_panel(folder / "panel")
    rows = shown_rows(audit)
    if len(rows) != len(panel):
        raise DataError(f"{folder / 'panel'}: holds {len(panel)} pictures, {AUDIT} names {len(rows)}; audit again")
    shown = dict(zip(rows, panel, strict=True))
    return Report(
        kind="audit",
        title=f"What the decisions rest on: {audit.about.get('data', folder.name)}",
        facts=_facts(audit),
        frames=[Frame("audit", None, panel)] if panel else [],
        empty="" if panel else "This audit has no examples.",
        links=[Link(folder / name, what) for name, what in _FILES.items() if (folder / name).exists()],
        fill=read_fill(info),
        notes=["These are the examples of the groups above."],
        audit=AuditPart(
            verdict=audit.verdict,
            suspicious=audit.suspicious,
            commands=audit.commands,
            groups=[_group(number, group, shown) for number, group in enumerate(audit.groups[:_GROUPS], 1)],
            tables=_tables(audit),
            reasons=[_example(shown[reason.row]) for reason in audit.wrong_reasons[:REASONS]],
            reasons_said=_reasons_said(audit),
        ),
    )


def _facts(audit: Audit) -> list[Fact]:
    known = "none" if not audit.known else f"known in {percent(audit.known)} of the heatmaps"
    about = {name: str(audit.about.get(name) or "") for name in ("model", "data", "method", "date", "agcam")}
    return [
        *facts_of(
            About(
                model=about["model"],
                data=about["data"],
                methods=(about["method"],),
                date=about["date"][:10],
                versions={"agcam": about["agcam"]} if about["agcam"] else None,
            )
        ),
        Fact("Images", f"{audit.images:,}"),
        Fact("Errors", percent(audit.errors), "Share of the explained decisions that are wrong."),
        Fact(
            "Objects", known, "Boxes or masks say what is no part of an object. Without them only the margin is tested."
        ),
        Fact("Rests on what is outside", _rests(audit.overall), _RESTS),
    ]


def _group(number: int, group: Group, shown: dict[int, ExplainedImage]) -> AuditGroup:
    by = "looked at in the same place" if group.by == "where" else "looked at for what is alike there"
    classes = ", ".join(f"{name} {percent(share)}" for name, share in group.classes.items())
    facts = [
        Fact("Heatmaps", f"{group.looks:,}"),
        Fact("Hot outside in", group.place, "Where the heat that was hidden lies, on average."),
        Fact("Errors", percent(group.errors), "Share of the group's decisions that are wrong."),
        Fact("Rests on what is outside", _rests(group.reliance), _RESTS),
    ]
    if not math.isnan(group.outside):
        facts.append(
            Fact(
                "Heat outside the objects",
                f"{percent(group.outside)}, {percent(group.expected)} of the area",
                "Share of the heat that lies outside the objects, and the share of the images that does.",
            )
        )
    facts.append(Fact("Classes", classes))
    examples = [_example(shown[row]) for row in group.examples]
    return AuditGroup(f"{number}. {by}", group.suspicious, facts, _mean_map(group), examples)


def _tables(audit: Audit) -> list[AuditTable]:
    regions = [
        [
            region.name or "all classes",
            region.place,
            f"{region.density:.1f}",
            _number(region.others, 1),
            f"{region.looks:,}",
        ]
        for region in audit.regions[:_ROWS]
    ]
    found = [
        AuditTable(
            "Hot places",
            "Corners, borders and frames that are at least 1.5 times as hot as the whole image, beyond chance, in all "
            "images or in a class more than in the others.",
            ["Class", "Place", "Times as hot", "In other classes", "Heatmaps"],
            regions,
            "No corner, border or frame is hot beyond chance.",
        )
    ]
    if audit.classes:
        rows = [
            [
                row.name,
                _share(row.outside),
                _share(row.expected),
                _share(row.pointing),
                _rests(row.reliance),
                _share(row.errors),
                f"{row.looks:,}",
            ]
            for row in audit.classes[:_ROWS]
        ]
        heads = ["Class", "Heat outside", "Area outside", "Peak on the object", "Rests on it", "Errors", "Heatmaps"]
        text = "The maps of the labels: classes with the most heat outside their objects first."
        found.append(AuditTable("Classes", text, heads, rows, ""))
    return found


def _reasons_said(audit: Audit) -> str:
    if not audit.right:
        return ""
    share = percent(audit.wrong_reason / audit.right)
    return (
        f"In {audit.wrong_reason:,} of {audit.right:,} right decisions ({share}) the hottest point lies outside the "
        "object. Those that rest most on what is there come first; all are in looks.csv."
    )


def _example(shown: ExplainedImage) -> Example:
    image = _enlarged(shown.image)
    drawn = overlay(image, shown.heatmaps["agcam"])
    ratio = image.shape[0] / shown.image.shape[0]
    if shown.mask is not None:
        drawn = draw_outlines(drawn, _resized(shown.mask, image.shape[:2]))
    elif len(shown.boxes):
        drawn = draw_boxes(drawn, shown.boxes * ratio)
    truth = ", ".join(shown.truth) or "none"
    right = shown.predicted in shown.truth
    said = f"{shown.explained}, {percent(shown.probability)}" + ("" if right else f"; it is {truth}")
    return Example(data_uri(drawn, "JPEG", quality=85), Path(shown.name).name, said)


def _mean_map(group: Group) -> str:
    heat = np.array(group.heat, np.float32)
    return data_uri(overlay(np.zeros((*heat.shape, 3), np.uint8), heat, strength=1.0))


def _enlarged(image: np.ndarray) -> np.ndarray:
    ratio = _SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio)))
    found: np.ndarray = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    return found


def _resized(mask: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    found: np.ndarray = np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))
    return found


def _rests(found: Reliance) -> str:
    if math.isnan(found.value):
        return "not measured"
    return f"{percent(found.value)} ({percent(found.low)} – {percent(found.high)})"


def _share(value: float) -> str:
    return "–" if math.isnan(value) else percent(value)


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
