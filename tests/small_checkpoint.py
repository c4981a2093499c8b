"""Checkpoints of small models with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from agcam.training.classifier import ViTClassifier

SMALL = {"embed_dim": 64, "depth": 2, "num_heads": 2}


def small_classifier(
    backbone: str = "vit_tiny_patch16_224", classes: int = 5, side: int = 64, **args: Any
) -> ViTClassifier:
    """A model whose logits depend on its image: weights are drawn wider than timm's."""
    torch.manual_seed(0)
    names = [f"beetle {i}" for i in range(classes)]
    config = {"size": side, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear"}
    model = ViTClassifier(
        backbone, image_size=side, backbone_args=SMALL | args, class_names=names, multilabel=False, input=config
    )
    for parameter in model.parameters():
        if parameter.dim() > 1 or parameter.abs().max() < 1e-3:  # layer scales begin near 0
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def save(model: ViTClassifier, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}, path)
    return path
