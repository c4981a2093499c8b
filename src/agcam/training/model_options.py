"""Check the options of a `ViTClassifier`, each and together."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

import timm

from agcam.errors import ModelError

_LIMITS = {
    "drop_path": (0, 1),
    "label_smoothing": (0, 1),
    "mixup": (0, math.inf),
    "cutmix": (0, math.inf),
    "ema": (0, 1),
    "freeze_epochs": (-1, math.inf),
    "unfreeze_blocks_per_epoch": (0, math.inf),
}
_LOADING = {"checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
_TWICE = {"image_size": "img_size", "drop_path": "drop_path_rate"}


def check_options(options: Mapping[str, Any]) -> None:
    """Check the arguments of a `ViTClassifier`.

    Raises:
        ModelError: naming one that is out of its range, unknown to timm, or at odds with another.
    """
    if options["pretrained"] and options["weights"]:
        raise ModelError("give model.pretrained or model.weights, not both")
    for name, (low, high) in _LIMITS.items():
        if not low <= options[name] < high:
            below_high = f" and less than {high}" if high < math.inf else ""
            raise ModelError(f"model.{name} is {options[name]}, expected at least {low}{below_high}")
    if options["freeze_epochs"] < 0 < options["unfreeze_blocks_per_epoch"]:
        raise ModelError("model.freeze_epochs -1 never frees a block; leave out model.unfreeze_blocks_per_epoch")
    if options["guidance"] and (mixed := [name for name in ("mixup", "cutmix") if options[name]]):
        raise ModelError(
            f"model.guidance needs images whose objects are where their boxes say: leave out model.{mixed[0]}, which "
            "lays one image over another"
        )
    backbone = options["backbone"]
    if not timm.is_model(backbone):
        close = ", ".join(difflib.get_close_matches(backbone, timm.list_models(), n=4, cutoff=0.5))
        raise ModelError(
            f"timm has no model {backbone!r}; see timm.list_models(){f' (close: {close})' if close else ''}"
        )
    args = options["backbone_args"] or {}
    if "num_classes" in args:
        raise ModelError("model.backbone_args: leave out num_classes; the data set says how many there are")
    for name, theirs in _TWICE.items():
        if options[name] and theirs in args:
            raise ModelError(
                f"model.{name} {options[name]} and model.backbone_args {theirs} {args[theirs]} say the same; leave one "
                "of them out"
            )


def check_backbone_args(args: Mapping[str, Any]) -> None:
    """Check the arguments that timm gets: they may come from an untrusted checkpoint.

    Raises:
        ModelError: if they would make timm load a file.
    """
    if loading := _LOADING & set(args):
        raise ModelError(f"model.backbone_args: leave out {', '.join(sorted(loading))}; use model.weights")
