"""Write a trained classifier as a folder that timm and the Hugging Face hub read, and read it back."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import safetensors
import timm.models

from agcam.data.input_config import InputConfig
from agcam.errors import ModelError, brief
from agcam.io.atomic import cannot_write, make_folder, write_whole
from agcam.io.text import read_text
from agcam.training.classifier import ViTClassifier
from agcam.training.remote import CONFIG, WEIGHTS
from agcam.training.weights import check_sizes, read_weights

CLASS_NAMES = "class_names.txt"
_MULTILABEL = "multi_label_classification"
_CROP_MODE = {"squash": "squash", "center_crop": "center"}


def export(model: ViTClassifier, folder: Path) -> None:
    """Write a classifier into `folder`, which is made if it is missing, by timm's own saver.

    Raises:
        ModelError: if timm cannot describe the model.
        OutputError: if the files cannot be written.
    """
    make_folder(folder)
    config = model.input_config
    try:
        with TemporaryDirectory(prefix=".export-", dir=folder) as scratch:
            timm.models.save_for_hf(
                model.backbone,
                scratch,
                model_config={
                    "label_names": list(model.class_names),
                    "problem_type": _MULTILABEL if model.multilabel else "single_label_classification",
                },
                safe_serialization=True,
                data_config={
                    "input_size": (3, config.size, config.size),
                    "mean": config.mean,
                    "std": config.std,
                    "interpolation": config.interpolation,
                    # a squashed image is not cropped; timm would do both
                    "crop_pct": config.crop_pct if config.resize == "center_crop" else 1.0,
                    "crop_mode": _CROP_MODE[config.resize],
                },
            )
            _without_number_of_classes(Path(scratch) / CONFIG)
            for name in (WEIGHTS, CONFIG):
                (Path(scratch) / name).replace(folder / name)
    except (OSError, safetensors.SafetensorError) as error:
        raise cannot_write(folder, error) from error
    except ValueError as error:
        raise ModelError(f"timm cannot describe the model in {CONFIG} ({brief(error)})") from error
    write_whole(folder / CLASS_NAMES, "".join(f"{name}\n" for name in model.class_names).encode())


def _without_number_of_classes(path: Path) -> None:
    """Leave `num_classes` out of timm's `model_args`: transformers gives it beside them; timm has it elsewhere, too."""
    config = json.loads(path.read_text("utf-8"))
    config["model_args"].pop("num_classes", None)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")


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
        args = {name: value for name, value in found["model_args"].items() if name not in ("num_classes", "in_chans")}
        side = args.pop("img_size", None)
        settings = {
            "backbone": found["architecture"],
            "image_size": side[-1] if isinstance(side, list) else side,
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
