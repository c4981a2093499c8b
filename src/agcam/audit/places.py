"""Fixed places of an image on the patch grid, and their names."""

from __future__ import annotations

import numpy as np

HOT = 1.5
"""From where on a place counts as hot: times the heat of the whole image."""
_SHARE = 1 / 8


def margin(grid: tuple[int, int]) -> np.ndarray:
    """Return the patches of the margin, an eighth of the image on each side: (h, w) bool.

    At least one patch wide, and never so wide that nothing is left within.
    """
    found: np.ndarray = np.logical_or.reduce(list(_sides(grid).values()))
    return found


def places(grid: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return by name, (h, w) bool each: four corners, four borders without them, the frame of all, the rest."""
    sides = _sides(grid)
    corners = {
        f"{row} {column} corner": sides[row] & sides[column]
        for row in ("upper", "lower")
        for column in ("left", "right")
    }
    within = ~np.logical_or.reduce(list(corners.values()))
    borders = {f"{name} border": side & within for name, side in sides.items()}
    frame = np.logical_or.reduce(list(sides.values()))
    found = {**corners, **borders, "frame": frame, "middle": ~frame}
    return {name: place for name, place in found.items() if place.any()}


def density(heat: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return how many times as hot as the whole image a place (h, w) bool is, for maps (…, h, w) that sum to 1."""
    found: np.ndarray = heat[..., place].sum(-1) / place.mean()
    return found


def name_place(heat: np.ndarray) -> str:
    """Name where a mean map (h, w) is hot.

    The corners and borders that are `HOT`, or else the smallest place with half of the heat, or "spread".
    """
    known = places((int(heat.shape[0]), int(heat.shape[1])))
    total = heat.sum()
    if not total > 0:
        return "nowhere"
    small = [name for name in known if name not in ("frame", "middle")]
    if hot := [name for name in small if density(heat / total, known[name]) >= HOT]:
        corners = [name for name in hot if name.endswith("corner")]
        return ", ".join(["all four corners", *hot[4:]] if len(corners) == 4 else hot)
    holding = [name for name, place in known.items() if heat[place].sum() >= total / 2]
    return min(holding, key=lambda name: int(known[name].sum()), default="spread")


def _sides(grid: tuple[int, int]) -> dict[str, np.ndarray]:
    h, w = grid
    high, wide = (max(1, min(round(_SHARE * side), (side - 1) // 2)) for side in grid)
    rows, columns = np.indices(grid)
    return {"upper": rows < high, "lower": rows >= h - high, "left": columns < wide, "right": columns >= w - wide}
