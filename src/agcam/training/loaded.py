"""Load a trained model, or one of timm's, with the input configuration of its images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import timm.data
import torch
from torch import nn

from agcam.data.input_config import InputConfig
from agcam.data.preprocess import find_input_config
from agcam.errors import InputError
from agcam.module_tree import all_modules
from agcam.training.classifier import ViTClassifier
from agcam.training.export import open_exported
from agcam.training.remote import fetch


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

    def to(self, device: str) -> None:
        """Put the model on a device.

        Raises:
            InputError: if it cannot be put there.
        """
        try:
            self.model.to(device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"--device {device}: {str(error).splitlines()[0]}") from error


def choose_device(asked: str | None, local_rank: int = 0) -> str:
    """Return the device that was asked for; else a GPU of CUDA or Apple's where there is one, else the CPU.

    Args:
        asked: its name, or None.
        local_rank: of this process among those on the machine, which share its GPUs of CUDA.
    """
    if asked:
        return asked
    if torch.cuda.is_available():
        return f"cuda:{local_rank % torch.cuda.device_count()}" if local_rank else "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def describe(model: nn.Module | LoadedModel) -> LoadedModel:
    """Describe a model that is in memory, by what it says of itself; it is neither moved nor copied.

    Raises:
        InputError: for a model that does not name its classes, or how its images must look.
    """
    if isinstance(model, LoadedModel):
        return model
    config, modules = find_input_config(model), all_modules(model)
    knowing: Any = next((module for module in modules if hasattr(module, "class_names")), None)
    if knowing is not None:
        multilabel = getattr(knowing, "multilabel", False) is True
        return LoadedModel(model, [str(name) for name in knowing.class_names], config, multilabel)
    cfg, count = getattr(model, "pretrained_cfg", None), getattr(model, "num_classes", 0)
    if not cfg or not count:
        raise InputError(
            f"{type(model).__name__} does not name its classes; set its class_names, a list by class index"
        )
    return LoadedModel(model, _timm_names(cfg, count), config)


def open_classifier(path: Path) -> ViTClassifier:
    """Load a checkpoint, a folder that `export` wrote, or what `fetch` knows, in evaluation mode on the CPU.

    Raises:
        ModelError: if `path` is none of these, or cannot be fetched.
    """
    found = fetch(path)
    return open_exported(found) if found.is_dir() else ViTClassifier.from_checkpoint(found)


def load_trained(path: Path) -> LoadedModel:
    """Load what `open_classifier` opens, with the input configuration of its images; raises as it does."""
    model = open_classifier(path)
    return LoadedModel(model, model.class_names, model.input_config, model.multilabel)


def load_timm(backbone: str, pretrained: bool) -> LoadedModel:
    """Load a timm model by name, with its own input size and the names of its ImageNet classes where timm knows them.

    Raises:
        ModelError: if timm has no such model or cannot load its weights.
    """
    known = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    cfg = known.to_dict() if known is not None else {}
    names = _timm_names(cfg, cfg.get("num_classes") or 1000)
    classifier = ViTClassifier(backbone, pretrained=pretrained, class_names=names, multilabel=False)
    return LoadedModel(classifier.eval(), classifier.class_names, classifier.input_config)


def _timm_names(cfg: dict[str, Any], count: int) -> list[str]:
    """Name the classes of a model of timm: by its `label_names`, or ImageNet's where they are as many."""
    labels = cfg.get("label_names")
    if isinstance(labels, list | tuple) and len(labels) == count:
        return [str(label) for label in labels]
    subset = timm.data.infer_imagenet_subset(cfg) if cfg else None
    if subset is not None and (info := timm.data.ImageNetInfo(subset)).num_classes() == count:
        return [info.index_to_description(i) for i in range(count)]
    return [f"class {i}" for i in range(count)]


def architecture_of(model: nn.Module) -> str:
    """Return timm's name of a classifier's backbone; else the name of the model's class."""
    return str(getattr(model, "hparams", {}).get("backbone") or type(model).__name__)
