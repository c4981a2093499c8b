"""Make the timm ViT that a classifier fine-tunes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch

from agcam.errors import ModelError
from agcam.explainers.find_vit import inspect_vit
from agcam.training.model_options import check_backbone_args
from agcam.training.remote import fetch_weights
from agcam.training.weights import are_restored, load_weights


def make_backbone(options: Mapping[str, Any], classes: int) -> Any:
    """Make the backbone with a head for `classes` classes, and load the weights that it starts from.

    Args:
        options: those of `ViTClassifier`.
        classes: how many.

    Returns:
        A module of timm's, which has attributes of its own.

    Raises:
        ModelError: if timm cannot make it, or the weights do not fit.
    """
    check_backbone_args(options["backbone_args"] or {})
    size = {"img_size": options["image_size"]} if options["image_size"] else {}
    args = {"num_classes": classes, "drop_path_rate": options["drop_path"], **size, **(options["backbone_args"] or {})}
    try:
        fetch = options["pretrained"] and not are_restored()
        backbone = timm.create_model(options["backbone"], pretrained=fetch, **args)
    except Exception as error:  # timm raises whatever its model's constructor or the network raises
        why = " ".join(str(error).split())
        hint = _of_size(options["backbone"]) if size and "size" in why else ""
        raise ModelError(f"timm cannot make {options['backbone']!r} with {args}: {why[:300]}{hint}") from error
    if options["weights"] and not are_restored():
        load_weights(backbone, fetch_weights(options["weights"]), "depth" in (options["backbone_args"] or {}))
    return backbone


def _of_size(name: str) -> str:
    """Say what to do about a backbone that takes no image size: is it a ViT at all?"""
    try:
        with torch.device("meta"):  # takes no memory
            inspect_vit(timm.create_model(name))
    except ModelError:
        return (
            "; it is no Vision Transformer: choose one, such as vit_small_patch16_224, or, to train this one without "
            "explanations, give --explain false and leave out model.image_size"
        )
    except Exception:  # whatever its constructor raises on this device, where only its size is in question
        pass
    return "; it may have a fixed size: leave out model.image_size"
