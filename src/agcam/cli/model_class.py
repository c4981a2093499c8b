"""A classifier of one's own on the command line: `--model my_package.MyClassifier`, or `model.class_path` in YAML."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agcam.errors import AgcamError
from agcam.io.plugins import import_object
from agcam.io.yaml import read_yaml
from agcam.training.classifier import ViTClassifier


def config_files(args: Sequence[str]) -> list[Path]:
    """Return the configurations that a command line names."""
    after = [Path(value) for name, value in itertools.pairwise(args) if name in ("-c", "--config")]
    return after + [Path(arg.partition("=")[2]) for arg in args if arg.startswith("--config=")]


def names_class(args: Sequence[str]) -> bool:
    """Return whether a command line, or a configuration that it names, chooses a class of model."""
    given = [*(f"{name}={value}" for name, value in itertools.pairwise(args)), *args]
    if any(re.fullmatch(r"--model(\.class_path)?=[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", arg) for arg in given):
        return True
    return any(_chooses(file) for file in config_files(args))


def classifier_class(config: Any) -> type[ViTClassifier]:
    """Return the class of a parsed `model:` configuration, which the parser has imported already."""
    named = config.get("class_path")
    if named is None:
        return ViTClassifier
    module, _, name = named.rpartition(".")
    found: type[ViTClassifier] = import_object("model", f"{module}:{name}")
    return found


def _chooses(file: Path) -> bool:
    try:
        found = read_yaml(file)
    except AgcamError:
        return False  # the command reads it again, and reports what is wrong
    if not isinstance(found, dict):
        return False
    sections = [found, *(part for part in found.values() if isinstance(part, dict))]  # of a command: `fit: {model: …}`
    models = [section.get("model") for section in sections]
    return any(isinstance(model, str) or (isinstance(model, dict) and "class_path" in model) for model in models)
