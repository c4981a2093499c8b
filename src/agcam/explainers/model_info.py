"""What people want to read beside a heatmap, as far as a model knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from agcam.module_tree import all_modules

PerChannel = tuple[float, ...]


@dataclass(frozen=True)
class ModelInfo:
    """What a model knows of its classes and images.

    Attributes:
        class_names: by class index; empty where unknown.
        mean: per channel, of the images that the model wants; None where unknown.
        std: per channel.
        multilabel: whether probabilities are a sigmoid for each class instead of a softmax.
        knows_multilabel: whether the model says so itself, rather than its labels.
    """

    class_names: tuple[str, ...] = ()
    mean: PerChannel | None = None
    std: PerChannel | None = None
    multilabel: bool = False
    knows_multilabel: bool = False

    def class_name(self, target: int) -> str:
        """Return the name of a class; its number where the model knows none."""
        return self.class_names[target] if target < len(self.class_names) else f"class {target}"

    def probabilities(self, logits: Tensor) -> Tensor:
        """Make probabilities (B, C) of logits (B, C): a softmax, or a sigmoid for each class."""
        return logits.sigmoid() if self.multilabel else logits.softmax(-1)


def read_model_info(model: nn.Module, backbone: nn.Module, direct_images: bool = True) -> ModelInfo:
    """Read what a timm model (normalization), one of transformers (names) or a LightningModule knows.

    Of the first module that has any of them: `class_names`, `multilabel`, and `input_config` with `mean` and `std`.
    Names fall back on the `config.id2label` of transformers, normalization on timm's `pretrained_cfg`.

    Args:
        model: the whole model.
        backbone: the ViT in it.
        direct_images: whether the ViT sees the images themselves, not what the model makes of them.
    """
    named = ("input_config", "class_names", "multilabel")
    knowing: Any = next((module for module in all_modules(model) if any(hasattr(module, name) for name in named)), None)
    config, names = getattr(knowing, "input_config", None), getattr(knowing, "class_names", None)
    mean, std = getattr(config, "mean", None), getattr(config, "std", None)
    if (mean is None or std is None) and direct_images:
        cfg = getattr(backbone, "pretrained_cfg", None) or {}
        mean, std = cfg.get("mean"), cfg.get("std")
    return ModelInfo(
        class_names=tuple(map(str, names)) if isinstance(names, list | tuple) else _label_names(model),
        mean=tuple(mean) if mean and std else None,
        std=tuple(std) if mean and std else None,
        multilabel=getattr(knowing, "multilabel", False) is True,
        knows_multilabel=isinstance(getattr(knowing, "multilabel", None), bool),
    )


def _label_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of classes in the configuration of a model of transformers, unless they are its LABEL_0, …."""
    labels = getattr(getattr(model, "config", None), "id2label", None)
    if not isinstance(labels, dict) or set(labels) != set(range(len(labels))):
        return ()
    names = tuple(str(labels[index]) for index in range(len(labels)))
    return () if all(name == f"LABEL_{index}" for index, name in enumerate(names)) else names
