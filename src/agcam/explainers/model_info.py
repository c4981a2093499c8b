"""What people want to read beside a heatmap, as far as a model knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class ModelInfo:
    """What a model knows of its classes and images.

    Attributes:
        class_names: by class index; empty where unknown.
        mean: per channel, of the images that the model wants; None where unknown.
        std: per channel.
        multilabel: whether probabilities are a sigmoid for each class instead of a softmax.
    """

    class_names: tuple[str, ...] = ()
    mean: Triple | None = None
    std: Triple | None = None
    multilabel: bool = False


def read_model_info(model: nn.Module, backbone: nn.Module, direct_images: bool = True) -> ModelInfo:
    """Read what a timm model (normalisation), one of transformers (names) or a `ViTClassifier` (everything) knows.

    Args:
        model: the whole model.
        backbone: the ViT in it.
        direct_images: whether the ViT sees the images themselves, not what the model makes of them.
    """
    knowing: Any = next((module for module in model.modules() if hasattr(module, "input_config")), None)
    if knowing is not None:
        config = knowing.input_config
        return ModelInfo(tuple(knowing.class_names), config.mean, config.std, bool(knowing.multilabel))
    names = _label_names(model)
    cfg = (getattr(backbone, "pretrained_cfg", None) or {}) if direct_images else {}
    mean, std = cfg.get("mean"), cfg.get("std")
    return ModelInfo(names, tuple(mean), tuple(std)) if mean and std else ModelInfo(names)


def _label_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of classes in the configuration of a model of transformers, unless they are its LABEL_0, …."""
    labels = getattr(getattr(model, "config", None), "id2label", None)
    if not isinstance(labels, dict) or set(labels) != set(range(len(labels))):
        return ()
    names = tuple(str(labels[index]) for index in range(len(labels)))
    return () if all(name == f"LABEL_{index}" for index, name in enumerate(names)) else names
