"""Transform image, boxes and mask together. The only file that knows albumentations."""

from __future__ import annotations

import os
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from agcam.data.batch import IGNORE, Example, Sample
from agcam.data.input_config import InputConfig
from agcam.errors import DataError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for updates at import
import albumentations as A  # after its switch

_INTERPOLATION = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "nearest": cv2.INTER_NEAREST}


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images.

    Attributes:
        scale: smallest share of the image's area that a random crop keeps; 1 crops nothing.
        flip: probability of a horizontal flip.
        color: strength of random brightness, contrast and saturation, 0 for none.
        rand_augment: operations drawn for each image from those of RandAugment (Cubuk et al., 2020), 0 for none.
        magnitude: how strong those operations can be, from 0 to 10; each draws its strength up to it.
        erasing: probability that a rectangle of 2 to 33 % of the image becomes noise (Zhong et al., 2020).
    """

    scale: float = 0.35
    flip: float = 0.5
    color: float = 0.3
    rand_augment: int = 0
    magnitude: float = 9.0
    erasing: float = 0.0

    def check(self) -> None:
        """Check the values. The constructor does not: jsonargparse would bury its message.

        Raises:
            DataError: if one is out of its range.
        """
        limits = {"scale": 1, "flip": 1, "color": 1, "rand_augment": 100, "magnitude": 10, "erasing": 1}
        for name, highest in limits.items():
            if not 0 <= getattr(self, name) <= highest:
                raise DataError(f"augmentation.{name} is {getattr(self, name)}, expected 0 … {highest}")


class Transform:
    """Turns an `Example` into a `Sample`; random if it has an augmentation.

    Randomness is drawn from torch's generator, so `seed_everything` governs it, in workers too.

    Raises:
        DataError: if a value of the augmentation is out of its range.
    """

    def __init__(self, config: InputConfig, augmentation: Augmentation | None = None) -> None:
        self.random = augmentation is not None
        size, interpolation = config.size, _INTERPOLATION.get(config.interpolation, cv2.INTER_CUBIC)
        steps: list[A.BasicTransform | A.BaseCompose] = []
        if augmentation is not None:
            augmentation.check()
            if augmentation.scale < 1:
                steps.append(
                    A.RandomResizedCrop(
                        (size, size),
                        scale=(augmentation.scale, 1.0),
                        interpolation=interpolation,
                        area_for_downscale="image",
                    )
                )
            else:
                steps.append(A.Resize(size, size, interpolation=interpolation, area_for_downscale="image"))
            if augmentation.flip:
                steps.append(A.HorizontalFlip(p=augmentation.flip))
            if augmentation.rand_augment:
                operations = _rand_augment(augmentation.magnitude / 10, config)
                steps.append(A.SomeOf(operations, augmentation.rand_augment, replace=True))
            if augmentation.color:
                c = augmentation.color
                steps.append(A.ColorJitter(brightness=c, contrast=c, saturation=c, hue=c / 10, p=0.8))
            if augmentation.erasing:
                steps.append(A.Erasing(fill="random", p=augmentation.erasing))
        elif config.resize == "squash":
            steps.append(A.Resize(size, size, interpolation=interpolation, area_for_downscale="image"))
        else:
            shorter = round(size / config.crop_pct)
            steps += [
                A.SmallestMaxSize(shorter, interpolation=interpolation, area_for_downscale="image"),
                A.CenterCrop(size, size),
            ]
        boxes = A.BboxParams(format="pascal_voc", label_fields=["box_labels"], clip=True, min_area=1.0)
        self.compose = A.Compose(steps, bbox_params=boxes)
        self.mean = torch.tensor(config.mean).mul(255).view(3, 1, 1)
        self.std = torch.tensor(config.std).mul(255).view(3, 1, 1)

    def __call__(self, example: Example, label: Tensor, index: int) -> Sample:
        """Transform one example; `label` and `index` pass through."""
        if self.random:
            self.compose.set_random_seed(int(torch.randint(2**31, ())))
        known = example.boxes is not None and example.box_labels is not None
        given = {
            "image": example.image,
            "bboxes": example.boxes if known else np.zeros((0, 4), np.float32),
            "box_labels": example.box_labels if known else np.zeros(0, np.int64),
        }
        if example.mask is not None:
            given["mask"] = example.mask
        moved = self.compose(**given)
        image = torch.from_numpy(np.ascontiguousarray(moved["image"].transpose(2, 0, 1))).float()
        boxes = np.asarray(moved["bboxes"], dtype=np.float32).reshape(-1, 4)
        box_labels = np.asarray(moved["box_labels"]).astype(np.int64).reshape(-1)
        return Sample(
            image=image.sub_(self.mean).div_(self.std),
            label=label,
            boxes=torch.from_numpy(boxes) if known else None,
            box_labels=torch.from_numpy(box_labels) if known else None,
            mask=torch.from_numpy(moved["mask"].astype(np.int64)) if example.mask is not None else None,
            index=index,
            name=example.name,
        )


def _rand_augment(strength: float, config: InputConfig) -> list[A.BasicTransform]:
    """RandAugment's operations and ranges, each drawn up to `strength` in [0, 1]; all of them equally likely.

    Geometric ones fill what enters from outside the image with the mean color, and the mask there with 255.
    """
    outside = {"fill": tuple(255 * m for m in config.mean), "fill_mask": IGNORE, "p": 1.0}
    shear = 17 * strength
    geometric = [
        A.Affine(rotate=(-30 * strength, 30 * strength), **outside),
        A.Affine(shear={"x": (-shear, shear), "y": (0, 0)}, **outside),
        A.Affine(shear={"x": (0, 0), "y": (-shear, shear)}, **outside),
        A.Affine(translate_percent={"x": (-0.45 * strength, 0.45 * strength), "y": (0, 0)}, **outside),
        A.Affine(translate_percent={"x": (0, 0), "y": (-0.45 * strength, 0.45 * strength)}, **outside),
    ]
    enhance = 0.9 * strength
    return [
        *geometric,
        A.ColorJitter(brightness=enhance, contrast=0, saturation=0, hue=0, p=1.0),
        A.ColorJitter(brightness=0, contrast=enhance, saturation=0, hue=0, p=1.0),
        A.ColorJitter(brightness=0, contrast=0, saturation=enhance, hue=0, p=1.0),
        A.Sharpen(alpha=(0, enhance), method="gaussian", p=1.0),
        A.Posterize(num_bits=(8 - round(4 * strength), 8), p=1.0),
        A.Solarize(threshold_range=(1 - strength, 1), p=1.0),
        A.AutoContrast(method="pil", p=1.0),
        A.Equalize(mode="pil", p=1.0),
        A.NoOp(p=1.0),
    ]


def denormalize(image: Tensor, config: InputConfig) -> np.ndarray:
    """Undo the normalization: (3, H, W) float to (H, W, 3) uint8 RGB."""
    mean, std = torch.tensor(config.mean).view(3, 1, 1), torch.tensor(config.std).view(3, 1, 1)
    scaled = (image.detach().float().cpu() * std + mean).mul(255).round().clamp(0, 255)
    return scaled.byte().permute(1, 2, 0).numpy()


def visible_part(image: np.ndarray, config: InputConfig) -> np.ndarray:
    """Crop an image (H, W, 3) to the part that evaluation shows to the model, at the image's own resolution."""
    left, top, right, bottom = visible_box(image.shape[0], image.shape[1], config)
    return image[top:bottom, left:right]


def visible_box(height: int, width: int, config: InputConfig) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the part of an image that evaluation shows to the model, in its pixels."""
    if config.resize == "squash":
        return 0, 0, width, height
    side = max(1, min(height, width, round(min(height, width) * config.crop_pct)))
    top, left = (height - side) // 2, (width - side) // 2
    return left, top, left + side, top + side
