"""Means over images, the same on any number of processes: the states are sums and counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from agcam.errors import InputError
from agcam.metrics import sums
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.spec import Curve, MetricSpec, Value


class RowMeans(Metric):
    """The mean of rows (K,), one for each image, and the values and curves made of it. Memory use is constant.

    Args:
        width: K.
        values: the numbers made of the mean row.
        curves: the curves made of it.
    """

    full_state_update = False
    sums: Tensor
    count: Tensor

    def __init__(self, width: int, values: Sequence[Value] = (), curves: Sequence[Curve] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.values = tuple(values)
        self.curves = tuple(curves)
        self.add_state("sums", sums.zeros(width), dist_reduce_fx=sums.merged)
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def add(self, rows: Tensor, counted: Tensor | None = None) -> None:
        """Add the rows (B, K) of a batch: those where `counted` (B,) bool is true, or, without it, those without NaN.

        Raises:
            InputError: if they are not K wide.
        """
        if rows.dim() != 2 or rows.shape[1] != self.width:
            raise InputError(f"rows must be (B, {self.width}), one for each image, found {tuple(rows.shape)}")
        rows = rows.detach().cpu()
        kept = rows[~rows.isnan().any(1) if counted is None else counted.cpu()]
        self.sums = sums.plus(self.sums, kept)
        self.count += len(kept)

    def mean(self) -> Tensor:
        """Return the mean row (K,), float64 on the CPU; NaN where no image was added."""
        return sums.read(self.sums) / self.count.cpu()

    def compute(self) -> Any:
        """Return each value and curve by its short name, and `count`, how many images were added. NaN if none was."""
        mean = self.mean()
        values = {value.short: value.of_mean(mean).float().to(self.device) for value in self.values}
        curves = {
            f"{curve.short}_curve" if curve.short in values else curve.short: mean[curve.part].float().to(self.device)
            for curve in self.curves
        }
        return values | curves | {"count": self.count}


class SpecMetric(RowMeans):
    """The torchmetrics class of any metric that is declared by a `MetricSpec`.

    Examples:
        >>> metric = SpecMetric(metric_specs()["abpc"])
        >>> metric.update(MetricInputs(model, images, heatmaps, targets, correct, alone))
        >>> metric.compute()["abpc"]

    Args:
        spec: the declaration.
        width: K, where it depends on the model.
    """

    def __init__(self, spec: MetricSpec, width: int | None = None, **kwargs: Any) -> None:
        super().__init__(spec.width if width is None else width, spec.values, spec.curves, **kwargs)
        self.spec = spec

    def update(self, inputs: MetricInputs) -> None:
        """Add the rows of those pairs of a batch that the metric counts."""
        rows = self.spec.measure(inputs)
        if rows is not None:
            self.add(rows)


class ImageMean(Metric):
    """Mean over images of one value, such as the loss. NaN in any image makes it NaN.

    Examples:
        >>> metric = ImageMean()
        >>> metric.update(losses)
        >>> metric.compute()
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", sums.zeros(), dist_reduce_fx=sums.merged)
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, values: Tensor) -> None:
        """Add the value (B,) of a batch of images."""
        self.total = sums.plus(self.total, values)
        self.count += len(values)

    def compute(self) -> Tensor:
        """Return the mean; NaN where no image was added."""
        return (sums.read(self.total) / self.count.cpu()).float().to(self.device)


class ImageMeans(Metric):
    """Mean over images of each of F named values. NaN excludes an image from that value only.

    Args:
        names: of the values, F.

    Examples:
        >>> from agcam.metrics import map_entropy
        >>> metric = ImageMeans(["entropy"])
        >>> metric.update(map_entropy(explanation.placed[:, 0])[:, None])
        >>> metric.compute()["entropy"]
    """

    full_state_update = False
    sums: Tensor
    counts: Tensor
    products: Tensor

    def __init__(self, names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = tuple(names)
        self.add_state("sums", sums.zeros(len(names)), dist_reduce_fx=sums.merged)
        self.add_state("counts", torch.zeros(len(names), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("products", sums.zeros(3, len(names)), dist_reduce_fx=sums.merged)
        self.standard_errors: dict[str, float] = {}

    def update(self, values: Tensor, images: Tensor | None = None) -> None:
        """Add the values (B, F) of a batch of images.

        Args:
            values: a row for each image, or several for one, all in the same call.
            images: (B,) a number for each row, the same for rows of one image; without it each row is an image.

        Raises:
            InputError: if there are not F of them.
        """
        if values.dim() != 2 or values.shape[1] != len(self.names):
            raise InputError(f"values must be (B, {len(self.names)}), found {tuple(values.shape)}")
        known = ~values.isnan()
        self.sums = sums.plus(self.sums, values.nan_to_num(0.0, torch.inf, -torch.inf))
        self.counts += known.sum(0).to(self.counts)
        total, number = values.detach().cpu().double().nan_to_num(0.0, torch.inf, -torch.inf), known.cpu().double()
        if images is not None:
            rows = torch.unique(images.cpu(), return_inverse=True)[1]
            empty = total.new_zeros(int(rows.max()) + 1 if len(rows) else 0, total.shape[1])
            total, number = empty.index_add(0, rows, total), empty.index_add(0, rows, number)
        self.products = sums.plus(self.products, torch.stack([total * total, total * number, number * number], 1))

    def compute(self) -> dict[str, Tensor]:
        """Return the means by name, except those over no image, and `count`: how many images the first value has.

        `standard_errors` then holds those of the means, by name: of a ratio of sums over images, so that several rows
        of an image count as one draw; of two images or more.
        """
        mean, count = sums.read(self.sums) / self.counts.cpu(), self.counts.cpu()
        squares, mixed, numbers = sums.read(self.products)
        errors = (squares - 2 * mean * mixed + mean**2 * numbers).clamp(min=0).sqrt() / count
        self.standard_errors = {
            n: float(errors[k]) for k, n in enumerate(self.names) if float(numbers[k]) < int(count[k]) ** 2
        }
        means = (sums.read(self.sums) / self.counts.cpu()).float().to(self.device)
        found = {name: means[k] for k, name in enumerate(self.names) if int(self.counts[k])}
        return found | {"count": self.counts[0]}
