"""Noisy linear imputation (Rong et al. 2022, arXiv 2202.00449): removed pixels become what their neighbors suggest."""

from __future__ import annotations

import numpy as np
import torch

# scipy ships no types
from scipy.sparse import coo_matrix  # type: ignore[import-untyped]
from scipy.sparse.linalg import splu  # type: ignore[import-untyped]
from torch import Tensor

from agcam.errors import InputError
from agcam.metrics.faithfulness.perturbation import Fill

_NEIGHBORS = [
    (down, right, 1 / 12 if down and right else 1 / 6)
    for down in (-1, 0, 1)
    for right in (-1, 0, 1)
    if (down, right) != (0, 0)
]
_OUTSIDE, _KNOWN = -2, -1


def impute(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Replace each removed pixel by the weighted mean of its eight neighbors, all solved for at once.

    Neighbors in a row or column weigh 1/6, diagonal ones 1/12; at the border the weights that remain are scaled up.

    Args:
        image: (C, H, W) float; removed values are ignored.
        removed: (H, W) bool, at least one pixel false.

    Returns:
        (C, H, W) float64.

    Raises:
        InputError: if every pixel is removed, so that nothing is left to impute from.
    """
    filled = image.astype(np.float64)
    count = int(removed.sum())
    if count == removed.size:
        raise InputError("all pixels are removed; linear imputation needs at least one that is left")
    if not count:
        return filled
    place = np.full((removed.shape[0] + 2, removed.shape[1] + 2), _OUTSIDE)
    place[1:-1, 1:-1] = _KNOWN
    place[1:-1, 1:-1][removed] = np.arange(count)
    row, column = np.nonzero(removed)
    diagonal, known_sum = np.zeros(count), np.zeros((count, len(image)))
    rows, columns, values = [np.arange(count)], [np.arange(count)], [diagonal]
    for down, right, weight in _NEIGHBORS:
        neighbor = place[row + 1 + down, column + 1 + right]
        diagonal += weight * (neighbor != _OUTSIDE)
        known = np.nonzero(neighbor == _KNOWN)[0]
        known_sum[known] += weight * filled[:, row[known] + down, column[known] + right].T
        unknown = np.nonzero(neighbor >= 0)[0]
        rows.append(unknown)
        columns.append(neighbor[unknown])
        values.append(np.full(len(unknown), -weight))
    system = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (count, count))
    # symmetric and diagonally dominant, so pivots may stay on the diagonal; an exact solution, several times as fast
    factors = splu(system.tocsc(), "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    filled[:, row, column] = factors.solve(known_sum).T
    return filled


def impute_linearly(images: Tensor, noise: float = 0.01, seed: int = 0) -> Fill:
    """Return the filling that imputes removed pixels and adds noise, so that smoothness does not reveal the mask.

    The noise is one pattern for all images, made on the CPU: results depend neither on how images are batched or
    distributed over processes, nor on the device.

    Args:
        images: (B, 3, H, W), normalized.
        noise: standard deviation, in the units of the normalized image.
        seed: of the pattern.
    """
    pattern = noise * torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed))

    def fill(rows: Tensor, removed: Tensor) -> Tensor:
        gone = removed.cpu()
        pairs = zip(images[rows].float().cpu().numpy(), gone.numpy(), strict=True)
        filled = torch.from_numpy(np.stack([impute(image, hole) for image, hole in pairs])).float()
        return torch.where(gone[:, None], filled + pattern, filled).to(images)

    return fill
