"""Encode pictures, heatmaps and masks as text, within a budget of bytes, to be decoded on demand."""

from __future__ import annotations

import base64
import hashlib
import io
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from PIL import Image

from agcam.visualization.overlay import COLORMAP, is_signed

BUDGET = 9_000_000
"""Bytes of all pictures together, before base64 turns three bytes into four."""
_LEAST, _MOST = 12_000, 120_000
# longest side and JPEG quality, the best first
_STEPS = ((448, 88), (448, 75), (336, 75), (224, 80), (224, 65), (160, 65), (112, 60))
_SMALL = 128


class Pictures:
    """Images, each kept once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._images: list[np.ndarray] = []

    def add(self, image: np.ndarray) -> int:
        """Add an image (H, W, 3) uint8; return its number in `encoded`."""
        key = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
        if key not in self._numbers:
            self._numbers[key] = len(self._images)
            self._images.append(image)
        return self._numbers[key]

    def encoded(self) -> list[dict[str, Any]]:
        """Return `src` (data URI), the image's `w` and `h`, and `pw` and `ph` of the picture made of it."""
        share = min(_MOST, max(_LEAST, BUDGET // max(1, len(self._images))))
        return [_picture(image, share) for image in self._images]


def encode_map(heatmap: np.ndarray) -> list[Any] | None:
    """Encode a heatmap as `[h, w, base64, signed]`, scaled to [0, 65535], little-endian uint16; None if not finite.

    Signed is 1 for a map with negative values, whose zero becomes the middle of the range, else 0.
    """
    if not np.isfinite(heatmap).all():
        return None
    low, high = float(heatmap.min()), float(heatmap.max())
    signed = is_signed(heatmap)
    if signed:
        high = max(-low, high)
        low = -high
    scaled = (heatmap.astype(np.float64) - low) / (high - low) if high > low else np.zeros(heatmap.shape)
    return [*heatmap.shape, _text((scaled * 65535).round().astype("<u2").tobytes()), int(signed)]


def encode_mask(mask: np.ndarray, size: tuple[int, int]) -> list[int]:
    """Return the run lengths of a mask (H, W) bool, scaled to `size` (h, w), in reading order, background first."""
    small: np.ndarray = mask.astype(np.uint8)
    if mask.shape != size:
        small = cv2.resize(small, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    flat = np.concatenate([[0], small.reshape(-1)])
    edges = np.flatnonzero(np.diff(flat)) if flat.size > 1 else np.array([], dtype=np.int64)
    runs: list[int] = np.diff(np.concatenate([[0], edges, [small.size]])).tolist()
    return runs


def data_uri(image: np.ndarray, kind: str = "PNG", **options: Any) -> str:
    """Encode an image (H, W, 3) or (H, W, 4) uint8 as a data URI, whole, without a budget.

    Args:
        image: to encode.
        kind: "PNG" or "JPEG".
        **options: of Pillow's `save`.
    """
    return _uri(_save(Image.fromarray(image), kind, **options), kind.lower())


def color_table(name: str = COLORMAP) -> str:
    """Return the 256 colors of a color map, the project's if not named, as base64 of RGB bytes."""
    return _text((mpl.colormaps[name](np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes())


def _picture(image: np.ndarray, budget: int) -> dict[str, Any]:
    height, width = image.shape[:2]
    whole = Image.fromarray(image)
    if max(height, width) <= _SMALL:
        packed = _save(whole, "PNG")
        if len(packed) <= budget:
            return _entry(packed, "png", width, height, whole.size)
    for side, quality in _STEPS:
        scale = min(1.0, side / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = whole if scale == 1.0 else whole.resize(size, Image.Resampling.LANCZOS)
        packed = _save(small, "JPEG", quality=quality, optimize=True)
        if len(packed) <= budget:
            break
    return _entry(packed, "jpeg", width, height, size)


def _entry(packed: bytes, kind: str, width: int, height: int, size: tuple[int, int]) -> dict[str, Any]:
    return {"src": _uri(packed, kind), "w": width, "h": height, "pw": size[0], "ph": size[1]}


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    packed = io.BytesIO()
    image.save(packed, kind, **options)
    return packed.getvalue()


def _uri(packed: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{_text(packed)}"


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
