"""What is measured: each metric as columns of one row an explained (image, class) pair, and figures made of them.

Every figure is a function of the mean row. So a shard of the data set keeps its rows, shards add up whatever process
made them, and one bootstrap over rows serves means, best thresholds and data-set IoUs alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor

from agcam.benchmark import columns
from agcam.benchmark.case import Case
from agcam.errors import InputError
from agcam.metrics.faithfulness import abpc, insertion_deletion, positive_negative, road
from agcam.metrics.faithfulness.perturbation import area
from agcam.metrics.localization import localization
from agcam.metrics.localization.pxap import average_precision

Needs = Literal["boxes", "masks", "objects", "model"]


@dataclass(frozen=True)
class Figure:
    """One number of the table.

    Attributes:
        name: in results, such as "abpc".
        column: of the rows that it is made of.
        of_mean: from mean rows (…, K) to figures (…,).
        higher: whether more is better; None where neither is.
    """

    name: str
    column: str
    of_mean: Callable[[Tensor], Tensor]
    higher: bool | None = True


@dataclass(frozen=True)
class Curve:
    """A mean row that is shown as a curve over `x`; `part` of the column's rows holds it."""

    name: str
    column: str
    x: tuple[float, ...]
    part: slice


@dataclass(frozen=True)
class Score:
    """A metric: what it needs, the rows that it makes, and what is told of them.

    Attributes:
        name: for `--metrics`.
        needs: "boxes", "masks", "objects" (either), or only the "model".
        rows: columns (P, K) float for a case; NaN in rows that do not count.
        figures: the numbers made of them.
        curves: the curves made of them.
        only: which images count, where not all do.
    """

    name: str
    needs: Needs
    rows: Callable[[Case], dict[str, Tensor]]
    figures: tuple[Figure, ...]
    curves: tuple[Curve, ...] = ()
    only: str = ""


def parse_scores(names: list[str]) -> list[Score]:
    """The metrics of these names, in the order of the table; "all" for all.

    Raises:
        InputError: for an unknown name, with the known ones.
    """
    known = [score.name for score in SCORES]
    for name in names:
        if name != "all" and name not in known:
            raise InputError(f"unknown metric {name!r}; known are {', '.join(known)} and all")
    return [score for score in SCORES if score.name in names or "all" in names]


def _component(number: int, rows: Tensor) -> Tensor:
    return rows[..., number]


def _mean(rows: Tensor) -> Tensor:
    return rows.mean(-1)


def _best(rows: Tensor) -> Tensor:
    return rows.amax(-1)


def _parts(count: int, rows: Tensor) -> Tensor:
    """(…, K) as (…, count, K / count)."""
    return rows.reshape(*rows.shape[:-1], count, -1)


def _best_of_three(rows: Tensor) -> Tensor:
    return _parts(3, rows).amax(-1).mean(-1)


def _difference(rows: Tensor) -> Tensor:
    first, second = _parts(2, rows).mean(-1).unbind(-1)
    return first - second


def _half_mean(half: int, rows: Tensor) -> Tensor:
    return _parts(2, rows)[..., half, :].mean(-1)


def _half_area(half: int, fractions: tuple[float, ...], rows: Tensor) -> Tensor:
    return area(_parts(2, rows)[..., half, :].movedim(-1, 0), fractions)


def _pixel_ap(rows: Tensor) -> Tensor:
    return average_precision(_parts(2, rows))


def _miou(rows: Tensor) -> Tensor:
    return (rows[..., :4:2] / rows[..., 1:4:2].clamp_min(1e-12)).mean(-1)


def _correct_pixels(rows: Tensor) -> Tensor:
    return rows[..., 4] / rows[..., 5]


def _overlaps(column: str) -> tuple[Figure, ...]:
    return tuple(
        Figure(f"{column}/{name}", column, partial(_component, k)) for k, name in enumerate(localization.NAMES)
    )


def _halves(x: tuple[float, ...], column: str, first: str, second: str) -> tuple[Curve, Curve]:
    n = len(x)
    return Curve(first, column, x, slice(0, n)), Curve(second, column, x, slice(n, 2 * n))


_FIXED = int(0.5 * len(columns.THRESHOLDS))
_RISE = tuple(insertion_deletion.fractions(columns.STEPS))
SCORES: tuple[Score, ...] = (
    Score(
        "localization",
        "objects",
        columns.localization,
        _overlaps("localization"),
        (Curve("iou_sweep", "iou_sweep", columns.SWEEP, slice(None)),),
    ),
    Score(
        "leem2024",
        "objects",
        columns.leem2024,
        _overlaps("leem2024"),
        only="images of one class, predicted right, with a known object",
    ),
    Score(
        "max_box_acc",
        "boxes",
        columns.max_box_acc,
        (
            Figure("max_box_acc", "box_hits", _best),
            Figure("gt_known_loc", "box_hits", partial(_component, _FIXED)),
            Figure("top1_loc", "top1_box_hits", partial(_component, _FIXED)),
        ),
        (Curve("box_accuracy", "box_hits", tuple(columns.THRESHOLDS.tolist()), slice(None)),),
    ),
    Score(
        "max_box_acc_v2", "boxes", columns.max_box_acc_v2, (Figure("max_box_acc_v2", "any_box_hits", _best_of_three),)
    ),
    Score("pxap", "masks", columns.pxap, (Figure("pxap", "pixel_histogram", _pixel_ap),)),
    Score(
        "segmentation",
        "masks",
        columns.segmentation,
        (
            Figure("segmentation/pixel_accuracy", "segmentation_pixels", _correct_pixels),
            Figure("segmentation/miou", "segmentation_pixels", _miou),
            Figure("segmentation/map", "segmentation_precisions", partial(_component, 0)),
        ),
    ),
    Score(
        "pointing_game",
        "objects",
        columns.pointing_game,
        (Figure("pointing_game", "pointing_game", partial(_component, 0)),),
    ),
    Score(
        "energy_pointing_game",
        "objects",
        columns.energy_pointing_game,
        (Figure("energy_pointing_game", "energy_pointing_game", partial(_component, 0)),),
    ),
    Score(
        "abpc",
        "model",
        columns.abpc,
        (
            Figure("abpc", "abpc", _difference),
            Figure("lerf_auc", "abpc", partial(_half_mean, 0)),
            Figure("morf_auc", "abpc", partial(_half_mean, 1), higher=False),
        ),
        _halves(abpc.FRACTIONS, "abpc", "lerf", "morf"),
    ),
    Score(
        "insertion_deletion",
        "model",
        columns.insertion_deletion,
        (
            Figure("insertion", "insertion_deletion", partial(_half_area, 0, _RISE)),
            Figure("deletion", "insertion_deletion", partial(_half_area, 1, _RISE), higher=False),
        ),
        _halves(_RISE, "insertion_deletion", "insertion", "deletion"),
    ),
    Score(
        "positive_negative",
        "model",
        columns.positive_negative,
        (
            Figure("positive", "positive_negative", partial(_half_area, 0, positive_negative.FRACTIONS), higher=False),
            Figure("negative", "positive_negative", partial(_half_area, 1, positive_negative.FRACTIONS)),
        ),
        _halves(positive_negative.FRACTIONS, "positive_negative", "positive", "negative"),
        only="images of one class",
    ),
    Score(
        "road",
        "model",
        columns.road,
        (Figure("road", "road", _difference),),
        _halves(road.FRACTIONS, "road", "road_lerf", "road_morf"),
        only="images of one class",
    ),
    Score(
        "sanity",
        "model",
        columns.sanity,
        tuple(
            Figure(f"sanity/{mode}_{kind}", f"sanity_{mode}_{kind}", _mean, higher=False)
            for mode in ("cascading", "independent")
            for kind in ("spearman", "ssim")
        ),
    ),
)
DEFAULT = tuple(score.name for score in SCORES if score.name not in ("road", "sanity"))
"""What is measured unless told otherwise: all but the two that cost seconds an image and method."""
