"""Which classes a command line chooses: `--data CUB200`, or `data.class_path` in YAML; nothing here imports torch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agcam.errors import AgcamError
from agcam.io.yaml import read_yaml


def config_files(args: Sequence[str]) -> list[Path]:
    """Return the configurations that a command line names."""
    after = [Path(value) for name, value in itertools.pairwise(args) if name in ("-c", "--config")]
    return after + [Path(arg.partition("=")[2]) for arg in args if arg.startswith("--config=")]


def named_classes(args: Sequence[str], key: str) -> list[str]:
    """Return the classes that a command line, and configurations that it names, choose for `model` or `data`."""
    given = [*(f"{name}={value}" for name, value in itertools.pairwise(args)), *args]
    option = re.compile(rf"--{key}(?:\.class_path)?=([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
    found = [match[1] for arg in given if (match := option.fullmatch(arg))]
    return found + [name for file in config_files(args) for name in _chosen(file, key)]


def _chosen(file: Path, key: str) -> list[str]:
    try:
        found = read_yaml(file)
    except AgcamError:
        return []  # the command reads it again, and reports what is wrong
    if not isinstance(found, dict):
        return []
    sections = [found, *(part for part in found.values() if isinstance(part, dict))]  # of a command: `fit: {model: …}`
    parts: list[Any] = [section.get(key) for section in sections]
    named = [part.get("class_path") if isinstance(part, dict) else part for part in parts]
    return [name for name in named if isinstance(name, str)]
