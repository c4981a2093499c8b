"""A classifier of one's own on the command line: `--model my_package.MyClassifier`, or `model.class_path` in YAML."""

from __future__ import annotations

from typing import Any

from agcam.io.plugins import import_object
from agcam.training.classifier import ViTClassifier


def classifier_class(config: Any) -> type[ViTClassifier]:
    """Return the class of a parsed `model:` configuration, which the parser has imported already."""
    named = config.get("class_path")
    if named is None:
        return ViTClassifier
    module, _, name = named.rpartition(".")
    found: type[ViTClassifier] = import_object("model", f"{module}:{name}")
    return found
