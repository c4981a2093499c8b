"""What trackers show of an explained image."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from agcam.io.explained_images import Answer, ExplainedImage
from agcam.io.names import safe_name
from agcam.visualization import overlay as render
from agcam.visualization.captions import BAD, GAP, GOOD, captioned

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
        """One line for people: image, label, prediction, probabilities, verdict, and which classes are drawn."""
        shown, iou = self.shown, self.shown.figures.get(self.method, {}).get("iou", math.nan)
        drawn = [shown.explained, *([shown.other.name] if shown.other else [])]
        parts = [
            shown.name,
            f"label: {self._labels or 'none'}",
            f"prediction: {self._answers}",
            verdict_of(shown)[0] if shown.verdict else "",
            f"heatmap of {' | '.join(drawn)}",
            "" if math.isnan(iou) else f"IoU {iou:.2f}",
        ]
        return " · ".join(filter(None, parts))

    @property
    def _labels(self) -> str:
        """The classes that the image shows, each with what the model says of it."""
        shown = self.shown
        shares: Sequence[float | None] = shown.shares or [
            shown.probability if name == shown.explained else None for name in shown.truth
        ]
        return ", ".join(_named(name, share) for name, share in zip(shown.truth, shares, strict=True))

    @property
    def _answers(self) -> str:
        """What the model says, and of an image with several classes what it says beside them."""
        shown = self.shown
        also = [_named(answer.name, answer.probability) for answer in shown.also if answer.name != shown.predicted]
        return ", ".join([_named(shown.predicted, shown.predicted_probability), *also])

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
    def overlays(self) -> list[np.ndarray]:
        """One picture as `overlay` or, of a mistaken image, two: of the explained and of the other class."""
        if self.shown.other is None:
            return [self.overlay]
        return [self.overlay, render.overlay(self.image, self.shown.other.heatmaps[self.method])]

    @cached_property
    def boxed(self) -> np.ndarray:
        """(H, W or 2W + gap, 3) uint8 RGB: `overlays` side by side, with the boxes."""
        return render.side_by_side([render.draw_boxes(overlay, self.boxes) for overlay in self.overlays], GAP)

    @cached_property
    def captioned(self) -> np.ndarray:
        """As `boxed`, with label, prediction, probabilities and verdict beneath."""
        return self._with_words([render.draw_boxes(overlay, self.boxes) for overlay in self.overlays], [])

    @cached_property
    def picture(self) -> np.ndarray:
        """As `captioned`, with the image before the overlays: with boxes and, if known, the object's outline."""
        image = self.image if self.mask is None else render.draw_outlines(self.image, self.mask)
        answers = f"label: {self._labels or 'none'}\nprediction: {self._answers}"
        return self._with_words([render.draw_boxes(image, self.boxes), *self.overlays], [answers])

    @property
    def signed(self) -> bool:
        """Whether the drawn heatmap has negative values, which are drawn in colors of their own."""
        return render.is_signed(self.shown.heatmaps[self.method])

    def _with_words(self, pictures: Sequence[np.ndarray], captions: Sequence[str]) -> np.ndarray:
        shown = self.shown
        drawn = [Answer(shown.explained, shown.probability)]
        drawn += [Answer(shown.other.name, shown.other.probability)] if shown.other else []
        said = [
            f"{self.method}: {'prediction' if a.name == shown.predicted else 'label'} {_named(a.name, a.probability)}"
            for a in drawn
        ]
        verdict = verdict_of(shown) if shown.verdict else None
        return captioned(pictures, [*captions, *said], Path(shown.name).name, verdict)

    def _enlarged(self, pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        if self.factor == 1:
            return pixels
        size = (width * self.factor, height * self.factor)
        return cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST)


def verdict_of(shown: ExplainedImage) -> tuple[str, tuple[int, int, int]]:
    """Return the words and the color that say whether the model is right; of an image whose truth is known."""
    return ("\u2713 right", GOOD) if shown.verdict == "right" else ("\u2717 wrong", BAD)


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
            "correct": d.shown.verdict == "right",
            "probability": d.shown.probability,
            "predicted_probability": d.shown.predicted_probability,
        }
        | {name: _number(d.shown.figures.get(d.method, {}).get(name)) for name in figures}
        for d in drawings
    ]


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _named(name: str, share: float | None) -> str:
    return name if share is None else f"{name} {share:.0%}"
