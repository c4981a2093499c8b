"""What validation and test log of a classifier beside its loss."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_warn
from torchmetrics import Metric, MetricCollection

from agcam.metrics.classification.mean_average_precision import MeanAveragePrecision
from agcam.metrics.classification.top_k_accuracy import TopKAccuracy

_MOST_NAMES = 20


def class_scores(multilabel: bool) -> MetricCollection:
    """The metrics of logits (B, C) and labels: `accuracy` and `top5`, or `mAP` for multi-label data."""
    metrics: dict[str, Metric | MetricCollection] = (
        {"mAP": MeanAveragePrecision()} if multilabel else {"accuracy": TopKAccuracy(1), "top5": TopKAccuracy(5)}
    )
    # no groups: they would make one of two metrics that happen to agree on the first batch
    return MetricCollection(metrics, compute_groups=False)


def warn_of_absent(scores: MetricCollection, stage: str, class_names: Sequence[str], known: dict[str, object]) -> None:
    """Name the classes that `mAP` leaves out because no image shows them; to be called on every process alike.

    Args:
        scores: of an epoch that has ended.
        stage: "val" or "test".
        class_names: of all classes.
        known: what was said last by stage, so that it is not said again every epoch; updated.
    """
    average = dict(scores.items(keep_base=True)).get("mAP")
    if not isinstance(average, MeanAveragePrecision):
        return
    average.compute()  # it is kept: whoever logs it does not compute it again
    absent = average.absent
    if absent and known.get(stage) != absent:
        names = ", ".join(class_names[number] for number in absent[:_MOST_NAMES])
        rank_zero_warn(
            f"{stage}/mAP leaves out {len(absent)} of {len(class_names)} classes, which no {stage} image shows: "
            f"{names}{', …' if len(absent) > _MOST_NAMES else ''}"
        )
    known[stage] = absent
