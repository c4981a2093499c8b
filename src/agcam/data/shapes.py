"""Shapes: generated images of simple forms with exact masks and boxes. Nothing to download, and the truth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from matplotlib.colors import hsv_to_rgb

from agcam.data.batch import Example
from agcam.data.module import ImageDataModule, Split
from agcam.data.shortcut import Box, marked_class, paint_mark
from agcam.data.source import ExampleDataset
from agcam.errors import InputError

CLASSES = ["circle", "square", "triangle", "star", "cross", "ring", "crescent", "heart"]
_STREAMS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
_MAX_OBJECTS = 3
_HUE_SPREAD = 0.035


class ShapesDataset:
    """Example i is drawn from (seed, split, i) alone, so any part of the data set can be made anywhere, again.

    Args:
        count: number of images.
        size: side in pixels.
        split: "train", "val" or "test"; each is its own stream of images.
        multilabel: objects of several classes in an image; otherwise all objects in an image are of its class.
        seed: of the whole data set.
        shortcut: see `Shapes`.
        annotated: see `Shapes`.
    """

    class_names = CLASSES

    def __init__(
        self,
        count: int,
        size: int,
        split: Split,
        multilabel: bool = False,
        seed: int = 0,
        shortcut: float = 0.0,
        annotated: float = 1.0,
    ) -> None:
        if count < 1 or size < 16:
            raise InputError(f"shapes need at least 1 image of at least 16 px, found {count} of {size} px")
        for name, share in (("shortcut", shortcut), ("annotated", annotated)):
            if not 0 <= share <= 1:
                raise InputError(f"data.{name} must be a share of the images, 0 … 1, found {share}")
        if shortcut and multilabel:
            raise InputError("data.shortcut marks the one class of an image: leave out data.multilabel")
        self.count = count
        self.size = size
        self.split = split
        self.multilabel = multilabel
        self.seed = seed
        self.shortcut = shortcut
        self.annotated = annotated

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < self.count:
            raise IndexError(index)
        example = self._drawn(index)
        if self.shortcut:
            self._mark(index, example)
        if self.split == "train" and self._rng(index, 2).random() >= self.annotated:
            return replace(example, boxes=None, box_labels=None, mask=None)
        return example

    def mark_of(self, index: int) -> Box | None:
        """Return the pixels of the planted mark of an image, xyxy with exclusive ends; None without `shortcut`."""
        return self._mark(index, self._drawn(index)) if self.shortcut else None

    def _rng(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, _STREAMS[self.split], *numbers))

    def _mark(self, index: int, example: Example) -> Box:
        """Paint the mark into an example's image, and take its pixels out of the mask."""
        assert example.boxes is not None
        assert example.mask is not None
        rng, (label,), classes = self._rng(index, 1), example.labels, len(CLASSES)
        holds = 1 / classes if self.split == "test" else self.shortcut
        box = paint_mark(rng, example.image, example.boxes, marked_class(rng, label, classes, holds), classes)
        example.mask[box[1] : box[3], box[0] : box[2]] = 0
        return box

    def _drawn(self, index: int) -> Example:
        rng = self._rng(index)
        image = _background(rng, self.size)
        _distract(rng, image)
        count = int(rng.integers(1, _MAX_OBJECTS + 1))
        wanted = (
            rng.integers(len(CLASSES), size=count) if self.multilabel else np.full(count, rng.integers(len(CLASSES)))
        )
        mask = np.zeros((self.size, self.size), np.uint8)
        boxes, labels = [], []
        for label in wanted:
            silhouette = _place(rng, CLASSES[label], mask)
            if silhouette is None:
                continue
            _paint(rng, image, silhouette, int(label))
            mask[silhouette] = label + 1
            ys, xs = np.nonzero(silhouette)
            boxes.append((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
            labels.append(int(label))
        return Example(
            image=image,
            labels=tuple(sorted(set(labels))),
            boxes=np.array(boxes, np.float32),
            box_labels=np.array(labels, np.int64),
            mask=mask,
            name=f"{self.split}_{index:06d}",
        )


class Shapes(ImageDataModule):
    """Generated shapes on textured backgrounds with distractors: 1–3 objects an image, exact masks and boxes.

    As with birds, a class has a typical color, which is not always enough: hues of neighboring classes overlap,
    and strokes and specks of any color lie about.

    Args:
        train_size: images a training epoch.
        val_size: images to validate on.
        test_size: images to test on.
        multilabel: whether an image shows several classes.
        seed: of the data set; equal seeds give equal images.
        shortcut: share of the training and validation images with a small mark in a corner that gives their class
            away; the others have the mark of another class. In test images marks and classes are independent: what a
            model loses there is what it had learned of the marks. 0 for no marks.
        annotated: share of the training images that have boxes and masks.
        **kwargs: see `ImageDataModule`.
    """

    def __init__(
        self,
        train_size: int = 8000,
        val_size: int = 800,
        test_size: int = 800,
        multilabel: bool = False,
        seed: int = 0,
        shortcut: float = 0.0,
        annotated: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(shortcut=shortcut, seed=seed, **kwargs)
        self.sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
        for split, size in self.sizes.items():
            if not isinstance(size, int) or size < 1:  # a configuration's null comes through as None
                raise InputError(f"data.{split}_size must be a number of images, at least 1, found {size!r}")
        self.several = multilabel
        self.annotated = annotated

    def open(self, split: Split) -> ShapesDataset:
        """Open the stream of a split, drawn at the model's image size."""
        size, planted = self.input_config.size, (self.shortcut, self.annotated)
        return ShapesDataset(self.sizes[split], size, split, self.several, self.seed, *planted)

    def plant(self, source: ExampleDataset, split: Split) -> ExampleDataset:
        """Return a split as it is: its marks are drawn with its shapes."""
        return source


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Two muted colors mixed by smooth noise, plus fine grain: (size, size, 3) uint8."""
    coarse = rng.random((int(rng.integers(3, 9)),) * 2, dtype=np.float32)
    mix: np.ndarray = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)[..., None].clip(0, 1)
    first, second = rng.integers(70, 186, (2, 3)).astype(np.float32)
    grain = 8 * rng.standard_normal((size, size, 1), dtype=np.float32)
    mixed: np.ndarray = mix * first + (1 - mix) * second + grain
    return mixed.clip(0, 255).astype(np.uint8)


def _distract(rng: np.random.Generator, image: np.ndarray) -> None:
    """Draw a few strokes and specks that belong to no class."""
    size = len(image)
    for _ in range(int(rng.integers(2, 6))):
        color = tuple(int(c) for c in rng.integers(0, 256, 3))
        points = rng.integers(0, size, (int(rng.integers(2, 5)), 1, 2)).astype(np.int32)
        cv2.polylines(image, [points], isClosed=False, color=color, thickness=max(1, size // 64))
    for x, y in rng.integers(0, size, (int(rng.integers(3, 10)), 2)):
        color = tuple(int(c) for c in rng.integers(0, 256, 3))
        cv2.circle(image, (int(x), int(y)), max(1, size // 48), color, -1)


def _place(rng: np.random.Generator, name: str, mask: np.ndarray) -> np.ndarray | None:
    """Draw a silhouette (H, W) bool at a free place inside the image; None if no such place was found."""
    size = len(mask)
    for _ in range(20):
        radius = rng.uniform(0.13, 0.25) * size
        cx, cy = rng.uniform(radius + 1, size - radius - 1, 2)
        window = np.s_[int(cy - radius) : int(cy + radius) + 2, int(cx - radius) : int(cx + radius) + 2]
        turn = rng.uniform(-0.5, 0.5)
        if mask[window].any():
            continue
        ys, xs = np.ogrid[window]
        dx, dy = (xs + 0.5 - cx) / radius, (ys + 0.5 - cy) / radius
        silhouette = np.zeros(mask.shape, dtype=bool)
        silhouette[window] = _inside(name, np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx)
        return silhouette
    return None


def _inside(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return whether points lie inside a shape that fills the unit circle; y points down."""
    distance: np.ndarray = np.hypot(x, y)
    inside: np.ndarray
    match name:
        case "circle":
            inside = distance <= 0.9
        case "square":
            inside = np.maximum(abs(x), abs(y)) <= 0.7
        case "triangle":
            inside = (y <= 0.6) & (abs(x) <= (y + 1) * 0.6)
        case "star":
            # in the wedge around one notch, inside means this side of the edge from notch to tip
            angle = np.mod(np.arctan2(x, -y), 2 * np.pi / 5) - np.pi / 5
            px, py = distance * np.cos(angle), distance * abs(np.sin(angle))
            notch, tip = 0.42, (np.cos(np.pi / 5), np.sin(np.pi / 5))
            inside = (tip[0] - notch) * py - tip[1] * (px - notch) >= 0
        case "cross":
            inside = ((abs(x) <= 0.28) & (abs(y) <= 0.9)) | ((abs(y) <= 0.28) & (abs(x) <= 0.9))
        case "ring":
            inside = (distance <= 0.95) & (distance >= 0.55)
        case "crescent":
            inside = (distance <= 0.95) & (np.hypot(x - 0.45, y) >= 0.75)
        case "heart":
            u, v = x * 1.25, -y * 1.25 + 0.15
            inside = (u**2 + v**2 - 0.8) ** 3 - u**2 * v**3 * 1.6 <= 0
        case _:
            raise InputError(f"unknown shape {name!r}; known are {', '.join(CLASSES)}")
    return inside


def _paint(rng: np.random.Generator, image: np.ndarray, silhouette: np.ndarray, label: int) -> None:
    """Fill a silhouette with a grained color around its class's hue; neighboring classes' hues overlap."""
    hue = (label / len(CLASSES) + rng.normal(0, _HUE_SPREAD)) % 1
    color = hsv_to_rgb((hue, rng.uniform(0.5, 1), rng.uniform(0.5, 1))) * 255
    grain = rng.normal(0, 10, (int(silhouette.sum()), 1))
    image[silhouette] = (color + grain).clip(0, 255).astype(np.uint8)
