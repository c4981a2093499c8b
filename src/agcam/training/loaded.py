"""Load a trained model, or one of timm's, with the input configuration of its images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import timm
import timm.data
from torch import nn

from agcam.data.input_config import InputConfig
from agcam.training.classifier import ViTClassifier
from agcam.training.export import open_exported


@dataclass(frozen=True)
class LoadedModel:
    """A model with its classes and the input configuration of its images.

    Attributes:
        model: a ViT that `explain` takes.
        class_names: by class index.
        input_config: how images must look.
        multilabel: whether probabilities are a sigmoid for each class instead of a softmax.
    """

    model: nn.Module
    class_names: list[str]
    input_config: InputConfig
    multilabel: bool = False


def load_trained(path: Path) -> LoadedModel:
    """Load a checkpoint, or a folder that `export` wrote, in evaluation mode on the CPU.

    Raises:
        ModelError: if `path` is neither.
    """
    model = open_exported(path) if path.is_dir() else ViTClassifier.from_checkpoint(path)
    return LoadedModel(model, model.class_names, model.input_config, model.multilabel)


def load_timm(backbone: str, pretrained: bool) -> LoadedModel:
    """Load a timm model by name, with its own input size and the names of its ImageNet classes where timm knows them.

    Raises:
        ModelError: if timm has no such model or cannot load its weights.
    """
    cfg = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    count = cfg.num_classes if cfg is not None and cfg.num_classes else 1000
    subset = timm.data.infer_imagenet_subset(cfg.to_dict()) if cfg is not None else None
    names = [f"class {i}" for i in range(count)]
    if subset is not None:
        info = timm.data.ImageNetInfo(subset)
        names = [info.index_to_description(i) for i in range(info.num_classes())]
    classifier = ViTClassifier(backbone, pretrained=pretrained, class_names=names, multilabel=False)
    return LoadedModel(classifier.eval(), classifier.class_names, classifier.input_config)
