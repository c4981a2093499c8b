"""Image, boxes and mask moved together. The only file that knows albumentations."""

from __future__ import annotations

import os
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from agcam.data.batch import Example, Sample
from agcam.data.input_config import InputConfig

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
    """

    scale: float = 0.35
    flip: float = 0.5
    color: float = 0.3


class Transform:
    """Turns an `Example` into a `Sample`; random if it has an augmentation.

    Randomness is drawn from torch's generator, so `seed_everything` governs it, in workers too.
    """

    def __init__(self, config: InputConfig, augmentation: Augmentation | None = None) -> None:
        self.random = augmentation is not None
        size, interpolation = config.size, _INTERPOLATION.get(config.interpolation, cv2.INTER_CUBIC)
        steps: list[A.BasicTransform] = []
        if augmentation is not None:
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
            if augmentation.color:
                c = augmentation.color
                steps.append(A.ColorJitter(brightness=c, contrast=c, saturation=c, hue=c / 10, p=0.8))
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


def to_pixels(image: Tensor, config: InputConfig) -> np.ndarray:
    """Undo the normalisation: (3, H, W) float to (H, W, 3) uint8 RGB."""
    mean, std = torch.tensor(config.mean).view(3, 1, 1), torch.tensor(config.std).view(3, 1, 1)
    scaled = (image.detach().float().cpu() * std + mean).mul(255).round().clamp(0, 255)
    return scaled.byte().permute(1, 2, 0).numpy()


def visible_part(image: np.ndarray, config: InputConfig) -> np.ndarray:
    """The part of an image (H, W, 3) that evaluation shows to the model, at the image's own resolution."""
    if config.resize == "squash":
        return image
    height, width = image.shape[:2]
    side = max(1, min(height, width, round(min(height, width) * config.crop_pct)))
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]
