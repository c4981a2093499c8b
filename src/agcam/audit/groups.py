"""Groups of looks: clusters of the heatmaps, and of what is under them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from agcam.errors import InputError

_MOST_CLUSTERS, _DIMENSIONS, _SAMPLE, _LEAST = 8, 16, 1000, 12


def cluster_heat(heat: np.ndarray, seed: int = 0) -> np.ndarray:
    """Group maps (N, h, w) that sum to 1 by where they are hot; return a number for each, (N,) int64.

    Square roots of shares lie as far apart as distributions do (Hellinger distance).
    """
    return _cluster(np.sqrt(heat.reshape(len(heat), -1)), seed)


def cluster_features(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """Group mean features (N, D) by their direction; return a number for each, (N,) int64."""
    centered = features - features.mean(0)
    return _cluster(centered / np.linalg.norm(centered, axis=1, keepdims=True).clip(1e-12), seed)


def _cluster(rows: np.ndarray, seed: int) -> np.ndarray:
    """Group rows by k-means, with the number of groups whose silhouette is best."""
    sklearn = scikit_learn()
    distinct = len(np.unique(rows.round(6), axis=0))
    if len(rows) < _LEAST or distinct < 3:
        return np.zeros(len(rows), np.int64)
    count = min(_DIMENSIONS, *rows.shape)
    reduced = sklearn["decomposition"].PCA(count, random_state=seed).fit_transform(rows.astype(np.float64))
    best, found = -np.inf, np.zeros(len(rows), np.int64)
    for k in range(2, min(_MOST_CLUSTERS, distinct - 1, len(rows) // 4) + 1):
        labels = sklearn["cluster"].KMeans(k, n_init=4, random_state=seed).fit_predict(reduced)
        size = min(_SAMPLE, len(rows))
        score = sklearn["metrics"].silhouette_score(reduced, labels, sample_size=size, random_state=seed)
        if score > best:
            best, found = score, labels.astype(np.int64)
    return found


def scikit_learn() -> dict[str, Any]:
    """Import the parts of scikit-learn that group looks.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return {name: import_module(f"sklearn.{name}") for name in ("cluster", "decomposition", "metrics")}
    except ImportError:
        raise InputError("agcam audit needs scikit-learn, which is not installed: pip install 'agcam[audit]'") from None
