"""What the model says of the explained images, kept until the epoch's end for the figures class by class."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from agcam.callbacks.gallery import gather
from agcam.explainers.model_info import ModelInfo
from agcam.metrics.classification.by_class import (
    ClassFigures,
    mean_by_class,
    multi_label_figures,
    single_label_figures,
)


class ClassRecords:
    """Collects labels, answers and overlaps of an epoch: a few bytes an image, in multi-label data its logits."""

    def __init__(self) -> None:
        self._images: list[tuple[np.ndarray, np.ndarray]] = []
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self._count = 0

    def add(self, label: Tensor, logits: Tensor, classes: Tensor, iou: Tensor) -> None:
        """Add images, each once in all processes.

        Args:
            label: (B,) int64 or (B, C) multi-hot.
            logits: (B, C).
            classes: (P,) int64, the classes whose heatmaps are scored.
            iou: (P,) of them, NaN where unknown.
        """
        self._count = int(logits.shape[1])
        if label.dim() == 1:
            self._images.append((label.int().cpu().numpy(), logits.argmax(1).int().cpu().numpy()))
        else:
            self._images.append(((label > 0).cpu().numpy(), logits.float().cpu().numpy()))
        self._pairs.append((classes.int().cpu().numpy(), iou.double().cpu().numpy()))

    def end(self, info: ModelInfo) -> ClassFigures | None:
        """Return the figures of the images of all processes, the same on each; None where there was none.

        Args:
            info: names the classes.
        """
        images, pairs, counts = gather(self._images), gather(self._pairs), gather([self._count])
        self._images, self._pairs = [], []
        if not images:
            return None
        label, said = (np.concatenate(parts) for parts in zip(*images, strict=True))
        count = max(counts) if label.ndim == 1 else label.shape[1]
        classes, iou = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        names, overlap = [info.class_name(c) for c in range(count)], mean_by_class(classes, iou, count)
        if label.ndim == 1:
            return single_label_figures(names, label, said, overlap)
        return multi_label_figures(names, said, label, overlap)
