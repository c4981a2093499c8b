"""Noisy linear imputation (Rong et al. 2022, arXiv 2202.00449): removed pixels become what their neighbours suggest."""

from __future__ import annotations

import numpy as np
import torch

# scipy ships no types
from scipy.sparse import coo_matrix  # type: ignore[import-untyped]
from scipy.sparse.linalg import splu  # type: ignore[import-untyped]
from torch import Tensor

from agcam.errors import InputError
from agcam.metrics.faithfulness.perturbation import Fill

_NEIGHBOURS = [
    (down, right, 1 / 12 if down and right else 1 / 6)
    for down in (-1, 0, 1)
    for right in (-1, 0, 1)
    if (down, right) != (0, 0)
]
_OUTSIDE, _KNOWN = -2, -1


def impute(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Each removed pixel as the weighted mean of its eight neighbours, all solved for at once.

    Neighbours in a row or column weigh 1/6, diagonal ones 1/12; at the border the weights that remain are scaled up.

    Args:
        image: (C, H, W) float; removed values are not looked at.
        removed: (H, W) bool, at least one pixel false.

    Returns:
        (C, H, W) float64.

    Raises:
        InputError: every pixel is removed, so nothing is known to impute from.
    """
    filled = image.astype(np.float64)
    count = int(removed.sum())
    if count == removed.size:
        raise InputError("all pixels are removed: linear imputation needs at least one that is left")
    if not count:
        return filled
    place = np.full((removed.shape[0] + 2, removed.shape[1] + 2), _OUTSIDE)
    place[1:-1, 1:-1] = _KNOWN
    place[1:-1, 1:-1][removed] = np.arange(count)
    row, column = np.nonzero(removed)
    diagonal, known_sum = np.zeros(count), np.zeros((count, len(image)))
    rows, columns, values = [np.arange(count)], [np.arange(count)], [diagonal]
    for down, right, weight in _NEIGHBOURS:
        neighbour = place[row + 1 + down, column + 1 + right]
        diagonal += weight * (neighbour != _OUTSIDE)
        known = np.nonzero(neighbour == _KNOWN)[0]
        known_sum[known] += weight * filled[:, row[known] + down, column[known] + right].T
        unknown = np.nonzero(neighbour >= 0)[0]
        rows.append(unknown)
        columns.append(neighbour[unknown])
        values.append(np.full(len(unknown), -weight))
    system = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (count, count))
    # symmetric and diagonally dominant, so pivots may stay on the diagonal; an exact solution, several times as fast
    factors = splu(system.tocsc(), "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    filled[:, row, column] = factors.solve(known_sum).T
    return filled


def impute_linearly(images: Tensor, noise: float = 0.01, seed: int = 0) -> Fill:
    """Removed pixels are imputed, with noise on top so that the filled area does not give the mask away.

    The noise is one pattern for all images, made on the CPU: results depend neither on how images are batched or
    spread over processes, nor on the device.

    Args:
        images: (B, 3, H, W), normalised.
        noise: standard deviation, in the units of the normalised image.
        seed: of the pattern.
    """
    pattern = noise * torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed))

    def fill(rows: Tensor, removed: Tensor) -> Tensor:
        gone = removed.cpu()
        pairs = zip(images[rows].float().cpu().numpy(), gone.numpy(), strict=True)
        filled = torch.from_numpy(np.stack([impute(image, hole) for image, hole in pairs])).float()
        return torch.where(gone[:, None], filled + pattern, filled).to(images)

    return fill
