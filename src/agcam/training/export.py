"""Write a trained classifier as a folder that timm and the Hugging Face hub read, and read it back."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import safetensors.torch

from agcam.data.input_config import InputConfig
from agcam.errors import ModelError, brief
from agcam.io.atomic import write_whole
from agcam.io.text import read_text
from agcam.training.classifier import ViTClassifier
from agcam.training.weights import check_sizes, read_weights

WEIGHTS, CONFIG, CLASS_NAMES = "model.safetensors", "config.json", "class_names.txt"
_MULTILABEL = "multi_label_classification"
_CROP_MODE = {"squash": "squash", "center_crop": "center"}


def export(model: ViTClassifier, folder: Path) -> None:
    """Write a classifier into `folder`, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous().clone() for key, value in model.backbone.state_dict().items()}
    write_whole(folder / WEIGHTS, safetensors.torch.save(state, metadata={"format": "pt"}))
    write_whole(folder / CONFIG, (json.dumps(timm_config(model), indent=2, ensure_ascii=False) + "\n").encode())
    write_whole(folder / CLASS_NAMES, "".join(f"{name}\n" for name in model.class_names).encode())


def timm_config(model: ViTClassifier) -> dict[str, Any]:
    """Collect what timm needs to rebuild the backbone, prepare its images and name its classes."""
    h, config = model.hparams, model.input_config
    known: dict[str, Any] = model.backbone.pretrained_cfg
    side = config.size
    kept = {key: known[key] for key in ("license", "first_conv", "classifier", "fixed_input_size") if key in known}
    size = {"img_size": h["image_size"]} if h["image_size"] else {}
    return {
        "architecture": h["backbone"].partition(".")[0],
        "num_classes": len(model.class_names),
        "num_features": int(model.backbone.num_features),
        "label_names": list(model.class_names),  # where timm's own saver puts them, and transformers looks
        "problem_type": _MULTILABEL if model.multilabel else "single_label_classification",
        "model_args": {**size, **(h["backbone_args"] or {})},
        "pretrained_cfg": {
            **kept,
            "custom_load": False,
            "num_classes": len(model.class_names),
            "input_size": [3, side, side],
            "mean": list(config.mean),
            "std": list(config.std),
            "interpolation": config.interpolation,
            # a squashed image is not cropped; timm would do both
            "crop_pct": config.crop_pct if config.resize == "center_crop" else 1.0,
            "crop_mode": _CROP_MODE[config.resize],
        },
    }


def open_exported(folder: str | Path) -> ViTClassifier:
    """Read a classifier that `export` wrote, in evaluation mode on the CPU.

    Raises:
        ModelError: if `folder` is not such a folder, or a file in it is missing or does not fit the others.
    """
    path = Path(folder) / CONFIG
    try:
        found = json.loads(read_text(path))
        cfg = found["pretrained_cfg"]
        resize = next(ours for ours, timms in _CROP_MODE.items() if timms == cfg["crop_mode"])
        values = {"size": cfg["input_size"][-1], "resize": resize}
        values |= {f.name: cfg[f.name] for f in fields(InputConfig) if f.name not in values}
        args = dict(found["model_args"])
        settings = {
            "backbone": found["architecture"],
            "image_size": args.pop("img_size", None),
            "backbone_args": args or None,
            "class_names": [str(name) for name in found.get("label_names") or cfg["label_names"]],
            "multilabel": found.get("problem_type") == _MULTILABEL,
            "input": values,
        }
    except FileNotFoundError:
        raise ModelError(f"{folder}: no {CONFIG} in it; expected a folder that `agcam export` wrote") from None
    except Exception as error:  # whatever an odd structure makes the lines above stumble over
        raise ModelError(
            f"{path}: not as `agcam export` writes it ({type(error).__name__}: {brief(error)}); export it again"
        ) from error
    state = read_weights(Path(folder) / WEIGHTS)
    check_sizes(settings, len(state), path)
    return ViTClassifier.restored(settings, {f"backbone.{name}": tensor for name, tensor in state.items()}, path)
