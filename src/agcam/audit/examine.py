"""From looks to findings: groups, classes, regions, and images that are right for the wrong reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agcam.audit.findings import Audit, ClassRow, Group, WrongReason
from agcam.audit.groups import cluster_features, cluster_heat
from agcam.audit.looks import MISSED, RIGHT, Looks
from agcam.audit.places import name_place
from agcam.audit.regions import hot_regions
from agcam.audit.reliance import LEAST, Reliance, is_suspicious, reliance
from agcam.errors import DataError

EXAMPLES = 8
_CLASSES, _LISTED, _SAME = 5, 50, 0.6


@dataclass(frozen=True, eq=False)
class Examined:
    """The findings, and the groups of each look, (N,) int64: -1 for looks that explain no decision."""

    audit: Audit
    where: np.ndarray
    what: np.ndarray


def examine(looks: Looks, class_names: Sequence[str], about: dict[str, Any], seed: int = 0) -> Examined:
    """Find what is suspicious in looks.

    Args:
        looks: of a split.
        class_names: by class index.
        about: goes into the findings.
        seed: of the clustering.

    Raises:
        DataError: if there are too few looks.
    """
    deciding = np.flatnonzero(looks.decides & (looks.heat.sum((1, 2)) > 0))
    if len(deciding) < LEAST:
        raise DataError(f"{len(deciding)} heatmaps to group, expected {LEAST} or more; audit more images")
    decided = looks[deciding]
    where, what = np.full((2, len(looks)), -1)
    where[deciding] = cluster_heat(decided.heat, seed)
    what[deciding] = cluster_features(decided.features, seed)
    clusters = [("where", n, np.flatnonzero(where == n)) for n in np.unique(where[deciding])]
    clusters += [("what", n, np.flatnonzero(what == n)) for n in np.unique(what[deciding])]
    groups = _ranked([(_group(looks, rows, by, int(n), class_names), rows) for by, n, rows in clusters])
    overall = reliance(decided)
    suspicious = is_suspicious(decided, overall) or any(group.suspicious for group in groups)
    right = looks.known & (looks.outcome == RIGHT)
    reasons = np.flatnonzero(right & (looks.hit == 0))
    reasons = reasons[np.argsort(-np.nan_to_num(looks.lost[reasons], nan=-1), kind="stable")]
    audit = Audit(
        about=about,
        images=len(np.unique(looks.index)),
        looks=len(decided),
        errors=float((decided.outcome != RIGHT).mean()),
        known=float(decided.known.mean()),
        overall=overall,
        suspicious=suspicious,
        verdict="",
        groups=groups,
        classes=_classes(looks, class_names),
        regions=hot_regions(decided, class_names),
        right=int(right.sum()),
        wrong_reason=len(reasons),
        wrong_reasons=[_reason(looks, int(row), class_names) for row in reasons[:_LISTED]],
        commands=[],
    )
    return Examined(replace(audit, verdict=_verdict(audit)), where, what)


def _group(looks: Looks, rows: np.ndarray, by: str, number: int, class_names: Sequence[str]) -> Group:
    mine = looks[rows]
    found = reliance(mine)
    outside, expected = _outside(mine)
    order = np.argsort(-np.nan_to_num(mine.lost, nan=-1), kind="stable")
    counts = Counter(class_names[target] for target in mine.target.tolist())
    heat = mine.heat.mean(0)
    return Group(
        by=by,
        number=number,
        place=name_place((mine.heat * mine.hidden).mean(0)),
        looks=len(mine),
        errors=float((mine.outcome != RIGHT).mean()),
        outside=outside,
        expected=expected,
        reliance=found,
        suspicious=is_suspicious(mine, found),
        classes={name: count / len(mine) for name, count in counts.most_common(_CLASSES)},
        heat=heat.astype(float).round(5).tolist(),
        examples=rows[order[:EXAMPLES]].tolist(),
    )


def _ranked(groups: list[tuple[Group, np.ndarray]]) -> list[Group]:
    """Order groups by what is sure of their reliance; leave out those that are mostly the same looks as one before."""

    def sure(group: Group) -> tuple[bool, float]:
        return group.suspicious, group.reliance.low if np.isfinite(group.reliance.low) else -np.inf

    kept: list[tuple[Group, set[int]]] = []
    for group, rows in sorted(groups, key=lambda pair: sure(pair[0]), reverse=True):
        mine = set(rows.tolist())
        if all(len(mine & other) < _SAME * len(mine | other) for _, other in kept):
            kept.append((group, mine))
    return [group for group, _ in kept]


def _outside(looks: Looks) -> tuple[float, float]:
    """Return the mean share of heat outside the objects, and that of a map that is as hot everywhere."""
    known = looks[looks.known & (looks.heat.sum((1, 2)) > 0)]
    if not len(known):
        return float("nan"), float("nan")
    return float(known.outside.mean()), float(1 - known.object.mean())


def _classes(looks: Looks, class_names: Sequence[str]) -> list[ClassRow]:
    """Describe the maps of the labels, the classes with the most heat outside their objects first."""
    labels = looks[((looks.outcome == RIGHT) | (looks.outcome == MISSED)) & looks.known]
    rows = []
    for target in np.unique(labels.target).tolist():
        mine = labels[labels.target == target]
        outside, expected = _outside(mine)
        errors, pointing = float((mine.outcome != RIGHT).mean()), float(mine.hit.mean())
        rows.append(ClassRow(class_names[target], len(mine), errors, outside, expected, pointing, reliance(mine)))
    return sorted(rows, key=lambda row: -np.nan_to_num(row.outside, nan=-1.0))


def _reason(looks: Looks, row: int, class_names: Sequence[str]) -> WrongReason:
    return WrongReason(
        row=row,
        index=int(looks.index[row]),
        name=str(looks.name[row]),
        explained=class_names[int(looks.target[row])],
        outside=float(looks.outside[row]),
        lost=float(looks.lost[row]),
    )


def _verdict(audit: Audit) -> str:
    """Say in a sentence or two whether anything is suspicious."""
    what = "outside the objects" if audit.known >= 0.5 else "in the margin of the images"
    if not np.isfinite(audit.overall.value):
        return f"Nothing can be said: fewer than {LEAST} images have anything {what} to hide."
    if not audit.suspicious:
        said = "Nothing suspicious found: no group of images rests on what is hot " + what
        if audit.known < 0.5:
            said += ". The data have no boxes or masks, so nothing is known of shortcuts elsewhere"
        return f"{said}. {_overall(audit.overall, what)}"
    suspects = [group for group in audit.groups if group.suspicious]
    first = suspects[0] if suspects else None
    said = f"Suspicious: {len(suspects)} of {len(audit.groups)} groups of images rest on what is hot {what}"
    if first is not None:
        said += (
            f", first of all {first.looks:,} heatmaps that are hot there in the {first.place}. Hiding that takes "
            f"{_percent(first.reliance)} of the probability of their classes"
        )
    return f"{said}. {_overall(audit.overall, what)}"


def _overall(overall: Reliance, what: str) -> str:
    return f"Over all images, hiding the hottest patches {what} takes {_percent(overall)} of the class's probability."


def _percent(found: Reliance) -> str:
    return f"{100 * found.value:.0f} % ({100 * found.low:.0f} to {100 * found.high:.0f})"
