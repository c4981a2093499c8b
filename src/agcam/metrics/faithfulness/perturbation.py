"""The core of the faithfulness metrics: rank pixels, remove a share of them, and run the model, in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from agcam.errors import InputError, ModelError
from agcam.evaluating import evaluating
from agcam.metrics.checks import check_explained_images
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.maps import min_max, upsample
from agcam.metrics.means import RowMeans
from agcam.metrics.spec import Curve, Value, parts

PairOf = Callable[..., tuple[Tensor, Tensor]]
"""A function from (model, images, heatmaps, targets, batch_size=…) to two curves (F, B)."""
Fill = Callable[[Tensor, Tensor], Tensor]
"""A function from rows (n,) int64 of the batch and removed pixels (n, H, W) bool to those images, refilled."""


def rank_pixels(heatmaps: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Rank the pixels in the order of their removal, most relevant first and least relevant first.

    Heatmaps are upsampled (bilinear) and scaled to [0, 1]. Equally relevant pixels keep the same order in both, the
    later in reading order first, so a constant map removes the same pixels both ways. Least relevant first ranks by
    1 + relevance in float32; of values that become equal, the more relevant goes first. The published ABPC code ranks
    so, and its golden values depend on it.

    Args:
        heatmaps: (B, h, w), any units.
        size: (H, W) of the image.

    Returns:
        Twice (B, H, W) int64: the place of each pixel, 0 for the first to be removed.
    """
    relevance = min_max(upsample(heatmaps, size)).flatten(1)
    most = relevance.argsort(dim=1, stable=True).flip(1)
    least = most.gather(1, (1 + relevance.gather(1, most)).argsort(dim=1, stable=True))
    return _places(most, size), _places(least, size)


def _places(order: Tensor, size: tuple[int, int]) -> Tensor:
    place = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, place).view(len(order), *size)


def pixel_counts(size: tuple[int, int], fractions: Sequence[float]) -> list[int]:
    """Return how many of the H × W pixels each fraction in [0, 1] stands for, rounded down."""
    return [int(size[0] * size[1] * fraction) for fraction in fractions]


def replace_by(images: Tensor, baseline: Tensor) -> Fill:
    """Return the filling by the values of `baseline`, which broadcasts to the images (B, 3, H, W)."""
    whole = baseline.to(images).expand_as(images)

    def fill(rows: Tensor, removed: Tensor) -> Tensor:
        return torch.where(removed[:, None], whole[rows], images[rows])

    return fill


def perturbed_logits(
    model: nn.Module, fill: Fill, places: Tensor, counts: Sequence[int], batch_size: int = 32
) -> Tensor:
    """Run the model on images with more and more pixels removed.

    All steps of all images are queued and run `batch_size` at a time on the device of `places`; no more perturbed
    images than that are in memory at once. The model runs in evaluation mode, without gradients, and is left as found.

    Args:
        model: gives logits (n, C) for images (n, 3, H, W).
        fill: makes the perturbed images.
        places: (B, H, W) int64, the order of removal: the first `count` pixels are removed.
        counts: F numbers of pixels.
        batch_size: images in a forward pass.

    Returns:
        (F, B, C) float32 logits.

    Raises:
        ModelError: if the model does not return (n, C).
        InputError: if `batch_size` is not positive, or there is no image.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be 1 or more, found {batch_size}")
    if not len(places) or not counts:
        raise InputError(f"nothing to perturb: found {len(places)} images and {len(counts)} steps")
    device = places.device
    steps = torch.tensor(counts, device=device).repeat_interleave(len(places))
    rows = torch.arange(len(places), device=device).repeat(len(counts))
    answers = []
    # not inference mode: tensors that a model caches (rotary tables, say) would stay unfit for training
    with evaluating(model), torch.no_grad():
        for step, row in zip(torch.split(steps, batch_size), torch.split(rows, batch_size), strict=True):
            logits = model(fill(row, places[row] < step[:, None, None]))
            if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(row):
                found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
                raise ModelError(f"the model must return logits ({len(row)}, classes), found {found}")
            answers.append(logits.float())
    return torch.cat(answers).view(len(counts), len(places), -1)


class Zeroed:
    """The logits of images whose most or least relevant pixels are zeroed; each step is computed once and kept.

    ABPC, deletion, positive and negative perturbation ask for many of the same images. Untouched images are the same
    in both orders, images of which everything is zeroed are one, and a map that several classes of an image share (of
    rollout, say) removes the same pixels for each.

    Args:
        model: gives logits (n, C) for images (n, 3, H, W).
        images: (B, 3, H, W), normalized: zero is the mean color.
        heatmaps: (B, h, w), any units, upsampled to the images and ranked by `rank_pixels`.
        targets: (B,) int64.
        batch_size: images in a forward pass.

    Attributes:
        rows: (B,) int64, the place of each pair among the U that differ from the pair before.
        images: (U, 3, H, W), detached.
        most: (U, H, W) int64, the place of each pixel, most relevant first.
        least: the same, least relevant first.

    Raises:
        InputError: if shapes do not match, or a heatmap is not finite.
    """

    def __init__(
        self, model: nn.Module, images: Tensor, heatmaps: Tensor, targets: Tensor, batch_size: int = 32
    ) -> None:
        self.model, self.targets, self.batch_size = model, targets, batch_size
        check_explained_images(images, heatmaps, targets)
        new = _differs_from_before(images) | _differs_from_before(heatmaps).to(images.device)
        self.rows, kept = new.cumsum(0) - 1, torch.nonzero(new)[:, 0]
        self.images = images[kept].detach()
        size = (int(images.shape[2]), int(images.shape[3]))
        self.most, self.least = rank_pixels(heatmaps.detach().to(images.device)[kept], size)
        self._known: dict[tuple[str, int], Tensor] = {}

    def logits(self, first: Literal["most", "least"], counts: Sequence[int]) -> Tensor:
        """Return the logits (F, B, C) with the `first` relevant pixels zeroed, as many as each of F counts says."""
        everything = self.images.shape[2] * self.images.shape[3]
        steps = [("ends" if count in (0, everything) else first, count) for count in counts]
        missing = [step for step in dict.fromkeys(steps) if step not in self._known]
        if ("ends", everything) in missing:
            missing.remove(("ends", everything))
            blank = self._run(self.images[:1], self.most[:1], [everything])
            self._known["ends", everything] = blank[0].expand(len(self.images), -1)
        if missing:
            places = self.most if first == "most" else self.least
            self._known.update(zip(missing, self._run(self.images, places, [n for _, n in missing]), strict=True))
        return torch.stack([self._known[step] for step in steps])[:, self.rows]

    def _run(self, images: Tensor, places: Tensor, counts: Sequence[int]) -> Tensor:
        fill = replace_by(images, torch.zeros(()))
        return perturbed_logits(self.model, fill, places, counts, self.batch_size)


def _differs_from_before(tensor: Tensor) -> Tensor:
    differs = torch.ones(len(tensor), dtype=torch.bool, device=tensor.device)
    differs[1:] = (tensor[1:] != tensor[:-1]).flatten(1).any(1)
    return differs


def zeroed_by(inputs: MetricInputs) -> Zeroed:
    """Return the zeroed images of the benchmark's inputs, which all metrics of these inputs share."""
    found = inputs.shared.get(Zeroed)
    if found is None:
        model = inputs.scorer or inputs.model
        found = Zeroed(model, inputs.images, inputs.heatmaps, inputs.targets, inputs.batch_size)
        inputs.shared[Zeroed] = found
    return found


def probabilities(logits: Tensor, targets: Tensor, multilabel: bool = False) -> Tensor:
    """Return the probability (F, B) of the targets (B,) in logits (F, B, C): softmax, or sigmoid if `multilabel`."""
    _check_range(logits, targets)
    index = targets.to(logits.device).long()[None, :, None].expand(len(logits), -1, 1)
    return (logits.sigmoid() if multilabel else logits.softmax(2)).gather(2, index)[:, :, 0]


def top1_hits(logits: Tensor, targets: Tensor) -> Tensor:
    """Return whether (F, B) bool the target (B,) is the top-1 class in logits (F, B, C)."""
    _check_range(logits, targets)
    return logits.argmax(2) == targets.to(logits.device)


def area(curves: Tensor, fractions: Sequence[float]) -> Tensor:
    """Return the area under curves (F, …) divided by the span of the fractions: their mean height, in their units."""
    x = torch.tensor(fractions, dtype=curves.dtype, device=curves.device)
    return torch.trapezoid(curves, x, dim=0) / (x[-1] - x[0])


def prepare(images: Tensor, heatmaps: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Check the inputs; return detached images and both orders of removal (`rank_pixels`) on the images' device."""
    check_explained_images(images, heatmaps, targets)
    size = (int(images.shape[2]), int(images.shape[3]))
    return images.detach(), *rank_pixels(heatmaps.detach().to(images.device), size)


def _check_range(logits: Tensor, targets: Tensor) -> None:
    classes = logits.shape[2]
    if bool(((targets < 0) | (targets >= classes)).any()):
        raise InputError(f"targets must be in [0, {classes - 1}], the model's classes, found {targets.tolist()}")


class CurvePair(RowMeans):
    """The means of two curves (F,), one after the other in an image's row, and the values made of them.

    Args:
        model: gives logits (n, C) for images (n, 3, H, W); neither copied nor moved nor saved with the metric.
        pair_of: makes both curves (F, B) of (model, images, heatmaps, targets, batch_size=…).
        values: made of the mean row (2 F,).
        curves: both, with F points each.
        batch_size: images in a forward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        pair_of: PairOf,
        values: Sequence[Value],
        curves: Sequence[Curve],
        batch_size: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(sum(len(curve.x) for curve in curves), values, curves, **kwargs)
        if batch_size < 1:
            raise InputError(f"batch_size must be 1 or more, found {batch_size}")
        # in a tuple, so that torch does not register it as a submodule
        self._held = (model,)
        self.pair_of = pair_of
        self.batch_size = batch_size

    @property
    def model(self) -> nn.Module:
        """The model that scores the perturbed images."""
        return self._held[0]

    def update(self, images: Tensor, heatmaps: Tensor, targets: Tensor) -> None:
        """Score heatmaps (B, h, w) of images (B, 3, H, W), normalized, for the classes `targets` (B,) int64."""
        if len(images):
            self.add(torch.cat(self.pair_of(self.model, images, heatmaps, targets, batch_size=self.batch_size)).T)


def pair_rows(pair_of: PairOf, inputs: MetricInputs) -> Tensor:
    """Return the rows (B, 2 F) that `pair_of` makes of the benchmark's inputs: both curves of each image."""
    model = inputs.scorer or inputs.model
    pair = pair_of(model, inputs.images, inputs.heatmaps, inputs.targets, batch_size=inputs.batch_size)
    return torch.cat(pair).T


def half_mean(half: int, rows: Tensor) -> Tensor:
    """Return the mean height of the first (0) or second (1) curve of rows (…, 2 F)."""
    return parts(2, rows)[..., half, :].mean(-1)


def half_area(half: int, fractions: Sequence[float], rows: Tensor) -> Tensor:
    """Return the area under the first (0) or second (1) curve of rows (…, 2 F); see `area`."""
    return area(parts(2, rows)[..., half, :].movedim(-1, 0), fractions)


def difference(rows: Tensor) -> Tensor:
    """Return the mean height of the first curve of rows (…, 2 F) minus that of the second."""
    return half_mean(0, rows) - half_mean(1, rows)
