"""What trackers show of an explained image."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from PIL import Image

from agcam.io.explained_images import ExplainedImage
from agcam.io.names import safe_name
from agcam.visualization import overlay as render

_SIDE = 224
_JPEG_QUALITY = 85


@dataclass(frozen=True, eq=False)
class Drawing:
    """An explained image, drawn when first looked at. Images too small to look at are enlarged by a whole factor.

    Attributes:
        shown: the image and all that is known of it; the first of its methods is drawn.
    """

    shown: ExplainedImage

    @cached_property
    def method(self) -> str:
        """The method that is drawn."""
        return next(iter(self.shown.heatmaps))

    @property
    def name(self) -> str:
        """A name that stays the same over the epochs and that every file system takes."""
        return f"{self.shown.index:06d}_{safe_name(self.shown.explained)}"

    @property
    def caption(self) -> str:
        """One line for people."""
        shown, iou = self.shown, self.shown.figures.get(self.method, {}).get("iou", math.nan)
        return (
            f"{shown.name} · true: {', '.join(shown.truth) or 'none'} · predicted: {shown.predicted} · "
            f"shown: {shown.explained} ({shown.probability:.0%})" + ("" if math.isnan(iou) else f" · IoU {iou:.2f}")
        )

    @cached_property
    def factor(self) -> int:
        """How many times larger it is drawn."""
        return max(1, -(-_SIDE // int(min(self.shown.image.shape[:2]))))

    @cached_property
    def image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self._enlarged(self.shown.image)

    @cached_property
    def boxes(self) -> np.ndarray:
        """(n, 4) xyxy in pixels of `image`."""
        return self.shown.boxes * self.factor

    @cached_property
    def mask(self) -> np.ndarray | None:
        """(H, W) uint8, 1 on the object, or None where unknown."""
        return None if self.shown.mask is None else self._enlarged(self.shown.mask.astype(np.uint8))

    @cached_property
    def overlay(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB: the heatmap over the image."""
        return render.overlay(self.image, self.shown.heatmaps[self.method])

    @cached_property
    def boxed(self) -> np.ndarray:
        """As `overlay`, with the boxes."""
        return render.draw_boxes(self.overlay, self.boxes)

    @cached_property
    def pair(self) -> np.ndarray:
        """(H, 2W + gap, 3) uint8 RGB: the image with boxes and, if known, the outline, beside the overlay."""
        image = self.image if self.mask is None else render.draw_outlines(self.image, self.mask)
        return render.side_by_side([render.draw_boxes(image, self.boxes), self.overlay])

    def _enlarged(self, pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        if self.factor == 1:
            return pixels
        size = (width * self.factor, height * self.factor)
        return cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST)


def jpeg(image: np.ndarray) -> bytes:
    """Encode an RGB image (H, W, 3) uint8 as JPEG: a fifth of a PNG's bytes, without visible loss."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()


def table_rows(drawings: Sequence[Drawing]) -> list[dict[str, Any]]:
    """Make a row a drawing: its classes, probability and the drawn method's figures; None where there is none."""
    figures = list(dict.fromkeys(name for d in drawings for name in d.shown.figures.get(d.method, {})))
    return [
        {
            "name": d.shown.name,
            "truth": ", ".join(d.shown.truth),
            "explained": d.shown.explained,
            "predicted": d.shown.predicted,
            "correct": d.shown.predicted in d.shown.truth,
            "probability": d.shown.probability,
        }
        | {name: _number(d.shown.figures.get(d.method, {}).get(name)) for name in figures}
        for d in drawings
    ]


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
