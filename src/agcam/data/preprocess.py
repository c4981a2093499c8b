"""Prepare single images as every command does: `agcam.preprocess(model)`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from agcam.data.batch import Example
from agcam.data.input_config import InputConfig, from_timm
from agcam.data.transforms import Transform
from agcam.errors import DataError, InputError, brief
from agcam.io.images import read_image, upright_pixels
from agcam.module_tree import all_modules

_NO_LABEL = torch.tensor(0)


class KnowsInput(Protocol):
    """A model, or what was loaded of one, that says how its images must look."""

    @property
    def input_config(self) -> InputConfig:
        """Size, normalization and resizing."""


class Preprocess:
    """The transform of an image to what a model takes; threads may share one, and loader workers get a copy.

    Attributes:
        config: how images enter the model.
    """

    def __init__(self, config: InputConfig) -> None:
        self.config = config
        self._own = threading.local()  # a transform holds the state of a call

    def __call__(self, image: Image.Image | np.ndarray | str | Path) -> Tensor:
        """Prepare one image.

        Args:
            image: a file; a PIL image, which is turned upright by its EXIF orientation, as files are; or an upright
                array (H, W, 3) uint8 RGB.

        Returns:
            (3, S, S) float32, normalized; S is the model's image size.

        Raises:
            DataError: for a file that is missing or no image.
            InputError: for what is none of these.
        """
        if not hasattr(self._own, "transform"):
            self._own.transform = Transform(self.config)
        prepared: Tensor = self._own.transform(Example(_pixels(image), (), None, None, None, ""), _NO_LABEL, 0).image
        return prepared

    def __reduce__(self) -> tuple[type, tuple[InputConfig]]:
        return type(self), (self.config,)


def preprocess(model: nn.Module | KnowsInput) -> Preprocess:
    """Return the very transform by which `agcam images` and validation prepare images for a model.

    An image that is prepared another way gives other figures: another library's resizing alone moves probabilities by
    up to 0.02.

    Example:
        >>> prepare = agcam.preprocess(model)
        >>> images = torch.stack([prepare(path) for path in paths])  # files, PIL images or arrays
        >>> agcam.explain(model, images)

    Args:
        model: a `ViTClassifier`, whatever `explain_files` takes but a path, or a module with a model of timm in it, of
            which size and normalization are taken; whole images are then squashed to a square, as commands do.

    Returns:
        A function of one image, to (3, S, S) float32.

    Raises:
        InputError: for a model that does not say how its images must look.
    """
    return Preprocess(find_input_config(model))


def find_input_config(model: nn.Module | KnowsInput) -> InputConfig:
    """Return how the images of a model must look; raises as `preprocess`."""
    modules: list[Any] = all_modules(model) if isinstance(model, nn.Module) else [model]
    for module in modules:
        if isinstance(config := getattr(module, "input_config", None), InputConfig):
            return config
    name = type(model).__name__
    if any(hasattr(module, "preprocess_cfg") for module in modules):
        raise InputError(f"{name} is a model of open_clip, which prepares its images itself: open_clip.image_transform")
    for module in modules:
        if isinstance(cfg := getattr(module, "pretrained_cfg", None), dict) and cfg:
            return from_timm(cfg, _image_size(module))
    raise InputError(
        f"{name} does not say how its images must look; expected a ViTClassifier, a model of timm, or a module whose "
        "input_config is an agcam.data.input_config.InputConfig"
    )


def _image_size(vit: Any) -> int | None:
    """Return the side of the images that a model of timm was made for, where it says so."""
    size = getattr(getattr(vit, "patch_embed", None), "img_size", None)
    if size is None:
        return None
    height, width = size
    if height != width:
        raise InputError(f"the model takes images of {height}×{width} pixels; agcam prepares squares alone")
    return int(height)


def _pixels(image: Any) -> np.ndarray:
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        try:
            return upright_pixels(image)
        except Exception as error:  # decoders raise whatever a broken file makes them stumble over
            name = getattr(image, "filename", "") or "an image"
            raise DataError(f"{name}: it cannot be decoded ({brief(error)})") from error
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    found = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
    raise InputError(f"expected a path, a PIL image or an array (H, W, 3) uint8 RGB, found {found}")
