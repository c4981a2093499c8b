"""The declaration of a metric, from which its table columns, curves, glossary entries and torchmetrics class are made.

Every value is a function of the mean row. So the rows of batches, shards and processes can simply be added, and one
bootstrap over rows serves means, best thresholds and ratios over the whole data set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any, Literal

import torch
from torch import Tensor

from agcam.errors import InputError
from agcam.metrics.bootstrap import OfMean
from agcam.metrics.inputs import MetricInputs

Needs = Literal["boxes", "masks", "objects", "model"]
OTHER = "Other"
"""The heading of values whose metric names no group."""
PROBABILITY, ACCURACY = "probability of the class", "top-1 accuracy"
"""Labels of the y axis that several metrics share."""


@dataclass(frozen=True)
class Value:
    """One number of a metric.

    Attributes:
        name: unique among all metrics, such as "abpc" or, where a metric has several, "segmentation/miou".
        of_mean: from mean rows (…, K) to values (…,).
        label: its name for people; the name if left out.
        help: one to three sentences on what it means.
        higher_is_better: None where neither is.
        minor: whether the terminal's table, which has room for few values, leaves it out.
    """

    name: str
    of_mean: OfMean
    label: str = ""
    help: str = ""
    higher_is_better: bool | None = True
    minor: bool = False

    @property
    def short(self) -> str:
        """The name without the metric's: "miou"."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class Curve:
    """A part of the mean row that is drawn as a curve.

    Attributes:
        name: unique among the curves of all metrics.
        x: the N places on the x axis, ascending.
        part: the N columns of the row.
        title: above its plot; the name if left out.
        x_label: of the x axis.
        y_label: of the y axis.
        label: its name in the report; the title if left out.
        help: one or two sentences on what it means.
        higher_is_better: whether a good method keeps it high; None where neither is better.
        over: what x is; curves over pixels and over thresholds are different plots.
        for_one_image: whether the report shows the curve of single images: useful for probabilities, not for hits.
    """

    name: str
    x: tuple[float, ...]
    part: slice = field(default_factory=lambda: slice(None))
    title: str = ""
    x_label: str = "share of pixels"
    y_label: str = ""
    label: str = ""
    help: str = ""
    higher_is_better: bool | None = True
    over: Literal["pixels", "threshold"] = "pixels"
    for_one_image: bool = False

    @property
    def short(self) -> str:
        """The name without the metric's."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class Restriction:
    """Which pairs a metric counts, in words and as a function from inputs of P pairs to (P,) bool."""

    words: str
    chosen: Callable[[MetricInputs], Tensor]


ALONE = Restriction("images of one class", attrgetter("alone"))
"""For metrics of top-1 accuracy: where an image shows several classes, the top-1 class says little about each."""


@dataclass(frozen=True)
class MetricSpec:
    """A metric: what it needs, how it measures an image, and the values and curves made of that.

    Functions defined at the top of a module (no lambdas) can be sent to the other processes of `--devices N`.

    Attributes:
        name: for `--metrics`.
        rows: from inputs of P >= 1 pairs to rows (P, K), one for each pair; NaN in rows that are excluded.
        values: the numbers made of the mean row.
        curves: the curves made of it.
        needs: "boxes", "masks", "objects" (boxes or masks, as the user chose), or the "model" only. `rows` is called
            only with pairs that have it.
        only: which of those pairs count; all if None.
        group: the heading under which its values stand.
        help: what it measures, in a few words, for `--help`.
        slow: whether it is measured only on request.
        width: K, for the torchmetrics class.
        order: its place in the tables, ascending.

    Examples:
        >>> def rows(inputs):
        ...     return inputs.heatmaps.flatten(1).std(1)[:, None]
        >>> contrast = MetricSpec("contrast", rows, (Value("contrast", column(0)),))
        >>> agcam.register_metric(contrast).values[0].name
        'contrast'
    """

    name: str
    rows: Callable[[MetricInputs], Tensor]
    values: tuple[Value, ...]
    curves: tuple[Curve, ...] = ()
    needs: Needs = "model"
    only: Restriction | None = None
    group: str = OTHER
    help: str = ""
    slow: bool = False
    width: int = 1
    order: int = 1000

    def measure(self, inputs: MetricInputs) -> Tensor | None:
        """Return the rows (P, K) float32 of all P pairs, NaN in those that are excluded; None if all are.

        Raises:
            InputError: if the metric does not give one row for each pair.
        """
        chosen = torch.ones_like(inputs.alone) if self.needs == "model" else getattr(inputs, _KNOWN[self.needs])
        if self.only is not None:
            chosen = chosen & self.only.chosen(inputs)
        if not bool(chosen.any()):
            return None
        pairs = torch.nonzero(chosen)[:, 0]
        rows = self.rows(inputs.keep(pairs))
        if rows.dim() != 2 or len(rows) != len(pairs):
            raise InputError(
                f"metric {self.name!r} must give rows ({len(pairs)}, K), one for each pair, found {tuple(rows.shape)}"
            )
        all_rows = torch.full((len(chosen), rows.shape[1]), torch.nan, device=rows.device)
        all_rows[pairs.to(rows.device)] = rows.float()
        return all_rows


_KNOWN = {"boxes": "boxed", "masks": "masked", "objects": "known"}


def column(number: int) -> OfMean:
    """Return the function that takes one column of mean rows (…, K)."""
    return itemgetter((..., number))


def parts(count: int, rows: Tensor) -> Tensor:
    """Cut rows (…, K) into `count` equal parts, (…, count, K / count)."""
    return rows.reshape(*rows.shape[:-1], count, -1)


def halves(x: tuple[float, ...], first: dict[str, Any], second: dict[str, Any], **both: Any) -> tuple[Curve, Curve]:
    """Declare two curves over the same N places: the first and the second half of a row of 2 N columns."""
    n = len(x)
    return (
        Curve(x=x, part=slice(0, n), **both, **first),
        Curve(x=x, part=slice(n, 2 * n), **both, **second),
    )
