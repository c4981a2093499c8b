"""From a heatmap on the patch grid to pixels: upsampling, scaling, thresholding, boxes."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def upsample(heatmaps: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample (B, h, w) to (B, H, W), bilinear, `align_corners=False`; values stay between the map's own extremes."""
    maps = heatmaps.float()
    if maps.shape[1:] == size:
        return maps
    found = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    # interpolation rounds: without this a constant map becomes noise, which `min_max` would scale up to [0, 1]
    return found.clamp(maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True))


def place(heatmaps: Tensor, size: tuple[int, int], extent: tuple[int, int]) -> Tensor:
    """Lay heatmaps over their image where the patch grid covers more or fewer pixels than the image has.

    Grids begin at the upper left pixel. One that ends before the image leaves a margin that the model does not see: it
    takes the map's lowest value, or 0 in a map with negative ones. One that reaches beyond the image covers pixels with
    which the model padded it: they are cut off.

    Args:
        heatmaps: (..., h, w).
        size: (H, W) of the image.
        extent: height and width in pixels that the grid covers.

    Returns:
        The heatmaps as they are where the extent is the image's size; else (..., H, W).
    """
    if extent == size:
        return heatmaps
    flat = heatmaps.reshape(-1, *heatmaps.shape[-2:])
    seen = upsample(flat, extent)[:, : size[0], : size[1]]
    placed = flat.float().amin((1, 2), keepdim=True).clamp_min(0).repeat(1, *size)
    placed[:, : seen.shape[1], : seen.shape[2]] = seen
    return placed.reshape(*heatmaps.shape[:-2], *size)


def min_max(heatmaps: Tensor) -> Tensor:
    """Scale each map (B, H, W) to [0, 1] by its own extremes; a constant map becomes all 0."""
    low = heatmaps.amin((1, 2), keepdim=True)
    span = heatmaps.amax((1, 2), keepdim=True) - low
    return torch.where(span > 0, (heatmaps - low) / span.clamp_min(torch.finfo(heatmaps.dtype).tiny), 0.0)


def evidence(heatmaps: Tensor) -> Tensor:
    """Scale each map (B, H, W) to [0, 1] for a threshold, which asks for what speaks for the class.

    In a map with negative values 0 is neutral: its positive part counts, and what is negative becomes 0 like what is
    neutral. Any other map is scaled as by `min_max`.
    """
    signed = heatmaps.amin((1, 2), keepdim=True) < 0
    return min_max(torch.where(signed, heatmaps.clamp_min(0), heatmaps))


def contour_boxes(binary: np.ndarray, largest: bool = False) -> np.ndarray:
    """Return a box for each outer contour of a binary map: (n, 4) int64, xyxy with exclusive right and lower edges.

    Args:
        binary: (H, W), bool or 0 and 1.
        largest: return only the box of the contour that encloses the largest area (one of equals); none where
            nothing is set.
    """
    contours, _ = cv2.findContours(binary.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if largest and len(contours) > 1:
        contours = [max(contours, key=cv2.contourArea)]
    boxes = [cv2.boundingRect(contour) for contour in contours]
    return np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], dtype=np.int64).reshape(-1, 4)


def region_boxes(binary: np.ndarray) -> np.ndarray:
    """Return a box for every connected region, also those in the hole of another; otherwise as `contour_boxes`."""
    contours, nesting = cv2.findContours(binary.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # the parent of a hole's contour is its region; a region's own contour has none
    own = np.flatnonzero(nesting[0, :, 3] < 0).tolist() if len(contours) else []
    boxes = [cv2.boundingRect(contours[index]) for index in own]
    return np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], dtype=np.int64).reshape(-1, 4)


def fill_boxes(boxes: np.ndarray | Tensor, size: tuple[int, int], inclusive: bool = False) -> np.ndarray:
    """Return the filled union (H, W) bool of xyxy boxes (n, 4) in pixels.

    Args:
        boxes: right and lower edges are exclusive; fractions are rounded to the nearest pixel edge.
        size: (H, W).
        inclusive: fill the right and lower edge too, after truncating fractions (the protocol of Leem & Seo).
    """
    filled = np.zeros(size, dtype=bool)
    values = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    whole = (np.trunc(values) if inclusive else np.floor(values + 0.5)).astype(np.int64).clip(min=0)
    for left, top, right, bottom in whole:
        filled[top : bottom + inclusive, left : right + inclusive] = True
    return filled
