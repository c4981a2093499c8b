"""A data set: a bright stripe at the left or at the right edge of a dark image."""

from __future__ import annotations

from typing import Any

import numpy as np

from agcam.data.batch import Example
from agcam.data.module import ImageDataModule, Split


class StripeImages:
    """Images whose stripe is their object."""

    multilabel = False

    def __init__(self, count: int, size: int) -> None:
        self.class_names = ["left", "right"]
        self.count = count
        self.size = size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        label, width = index % 2, self.size // 4
        start = label * (self.size - width)
        image = np.random.default_rng(index).integers(0, 60, (self.size, self.size, 3), dtype=np.uint8)
        image[:, start : start + width] += 180
        box = np.array([[start, 0, start + width, self.size]], np.float32)
        return Example(image, (label,), box, np.array([label]), None, f"stripe_{index}")


class Stripes(ImageDataModule):
    """Stripes, generated.

    Args:
        count: images in each split.
        **kwargs: see `ImageDataModule`.
    """

    def __init__(self, count: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = count

    def open(self, split: Split) -> StripeImages:
        """Open a split; all splits hold the same images."""
        return StripeImages(self.count, self.input_config.size)
