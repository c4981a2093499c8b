"""What explanations depend on, and what made them, as every output folder records it."""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from agcam import __version__
from agcam.training.fingerprint import hash_weights
from agcam.training.loaded import LoadedModel, architecture_of


def settings_of(subject: LoadedModel, method: str, top: int, targets: Sequence[str], precision: str) -> dict[str, Any]:
    """Return everything that explanations depend on, named as the user knows it.

    Args:
        subject: the model.
        method: as the user wrote it.
        top: how many of the most probable classes are explained.
        targets: names of the classes that are explained instead.
        precision: of the forward.
    """
    classes: list[str] | int = list(targets) if targets else min(top, len(subject.class_names))
    return {
        "weights": hash_weights(subject.model),
        "class names": hashlib.sha256(json.dumps(subject.class_names).encode()).hexdigest(),
        "input": subject.input_config.to_dict(),
        "--method": method,
        "--targets" if targets else "--top": classes,
        # folders of before there was a choice know nothing of it
        **({} if precision == "fp32" else {"--precision": precision}),
    }


def about_call(subject: LoadedModel, weights: str) -> dict[str, Any]:
    """Return what made explanations beyond their settings: date, model, device, versions.

    Args:
        subject: the model.
        weights: where its weights come from.
    """
    return {
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "model": architecture_of(subject.model),
        "weights": weights,
        "device": str(next(subject.model.parameters()).device),
        "versions": {
            "agcam": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "timm", "pillow", "opencv-python-headless")},
        },
    }
