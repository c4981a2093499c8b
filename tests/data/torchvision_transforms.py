"""The transforms of agcam.data.transforms made of torchvision v2: what would take over if albumentations had to go.

The tests of the transforms run on both. What differs is how images are resampled when they shrink (over areas there,
with antialiasing here) and the noise that erasing leaves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from agcam.data.batch import IGNORE, Example, Sample
from agcam.data.input_config import InputConfig
from agcam.data.transforms import Augmentation


class TorchvisionTransform:
    """Turns an `Example` into a `Sample`, as `Transform` does."""

    def __init__(self, config: InputConfig, augmentation: Augmentation | None = None) -> None:
        size = (config.size, config.size)
        how: dict[str, Any] = {"interpolation": InterpolationMode(config.interpolation), "antialias": True}
        steps: list[torch.nn.Module] = []
        erasing: list[torch.nn.Module] = []
        if augmentation is None and config.resize == "center_crop":
            steps += [v2.Resize(round(config.size / config.crop_pct), **how), v2.CenterCrop(config.size)]
        elif augmentation is None or augmentation.scale == 1:
            steps.append(v2.Resize(size, **how))
        if augmentation is not None:
            augmentation.check()
            if augmentation.scale < 1:
                steps.append(v2.RandomResizedCrop(size, scale=(augmentation.scale, 1.0), **how))
            steps.append(v2.RandomHorizontalFlip(augmentation.flip))
            operations = _rand_augment(augmentation.magnitude / 10, config)
            steps += [v2.RandomChoice(operations) for _ in range(augmentation.rand_augment)]
            c = augmentation.color
            steps.append(v2.RandomApply([v2.ColorJitter(c, c, c, c / 10)], 0.8))
            erasing = [v2.RandomErasing(augmentation.erasing, value="random")] if augmentation.erasing else []
        self.geometry = v2.Compose([*steps, v2.ClampBoundingBoxes()])
        scaled = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(config.mean), list(config.std))]
        self.values = v2.Compose([*scaled, *erasing])

    def __call__(self, example: Example, label: Tensor, index: int) -> Sample:
        has_boxes, height, width = example.boxes is not None, *example.image.shape[:2]
        boxes = torch.from_numpy(example.boxes) if example.boxes is not None else torch.zeros(0, 4)
        labels = np.zeros(0, np.int64) if example.box_labels is None else example.box_labels
        given: dict[str, Any] = {
            "image": tv_tensors.Image(torch.from_numpy(example.image.transpose(2, 0, 1).copy())),
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),  # type: ignore[call-overload]  # its stubs know enumerations only
            "box_labels": torch.from_numpy(labels.astype(np.int64)),
        }
        if example.mask is not None:
            given["mask"] = tv_tensors.Mask(torch.from_numpy(example.mask))
        moved = self.geometry(given)
        corners = moved["boxes"].as_subclass(Tensor).float()
        kept = (corners[:, 2:] - corners[:, :2]).prod(1) >= 1  # SanitizeBoundingBoxes would drop narrow ones, too
        return Sample(
            image=self.values(moved["image"]).as_subclass(Tensor),
            label=label,
            boxes=corners[kept] if has_boxes else None,
            box_labels=moved["box_labels"][kept] if has_boxes else None,
            mask=moved["mask"].as_subclass(Tensor).long() if example.mask is not None else None,
            index=index,
            name=example.name,
        )


def _rand_augment(strength: float, config: InputConfig) -> list[torch.nn.Module]:
    """The operations of `Transform`'s policy, with the same ranges."""
    fill = {tv_tensors.Image: [255 * m for m in config.mean], tv_tensors.Mask: IGNORE}
    shear, shift, enhance = 17 * strength, 0.45 * strength, 0.9 * strength
    return [
        v2.RandomAffine(30 * strength, fill=fill),
        v2.RandomAffine(0, shear=(-shear, shear, 0, 0), fill=fill),
        v2.RandomAffine(0, shear=(0, 0, -shear, shear), fill=fill),
        v2.RandomAffine(0, translate=(shift, 0), fill=fill),
        v2.RandomAffine(0, translate=(0, shift), fill=fill),
        v2.ColorJitter(brightness=enhance),
        v2.ColorJitter(contrast=enhance),
        v2.ColorJitter(saturation=enhance),
        v2.RandomAdjustSharpness(1 + enhance, p=1.0),
        v2.RandomChoice([v2.RandomPosterize(bits, p=1.0) for bits in range(8 - round(4 * strength), 9)]),
        v2.RandomChoice([v2.RandomSolarize(255 * (1 - strength * k / 10), p=1.0) for k in range(11)]),
        v2.RandomAutocontrast(p=1.0),
        v2.RandomEqualize(p=1.0),
        v2.Identity(),
    ]
