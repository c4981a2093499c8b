"""The scores that validation and test log beside the loss."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_warn
from torchmetrics import Metric, MetricCollection

from agcam.metrics.classification.mean_average_precision import MeanAveragePrecision
from agcam.metrics.classification.top_k_accuracy import TopKAccuracy

_MOST_NAMES = 20


def class_scores(multilabel: bool) -> MetricCollection:
    """Make the metrics of logits (B, C) and labels: `accuracy` and `top5`, or `mAP` for multi-label data."""
    metrics: dict[str, Metric | MetricCollection] = (
        {"mAP": MeanAveragePrecision()} if multilabel else {"accuracy": TopKAccuracy(1), "top5": TopKAccuracy(5)}
    )
    # no groups: they would merge two metrics that happen to agree on the first batch
    return MetricCollection(metrics, compute_groups=False)


def warn_of_absent(scores: MetricCollection, stage: str, class_names: Sequence[str], known: dict[str, object]) -> None:
    """Name the classes that `mAP` leaves out because no image shows them; to be called on every process alike.

    Args:
        scores: of an epoch that has ended.
        stage: "val" or "test".
        class_names: of all classes.
        known: the classes warned of last, by stage, so that no warning is repeated every epoch; updated.
    """
    average = dict(scores.items(keep_base=True)).get("mAP")
    if not isinstance(average, MeanAveragePrecision):
        return
    average.compute()  # the metric keeps the result: logging does not compute it again
    absent = average.absent
    if absent and known.get(stage) != absent:
        names = ", ".join(class_names[number] for number in absent[:_MOST_NAMES])
        rank_zero_warn(
            f"{stage}/mAP leaves out {len(absent)} of {len(class_names)} classes, which no {stage} image shows: "
            f"{names}{', …' if len(absent) > _MOST_NAMES else ''}"
        )
    known[stage] = absent
