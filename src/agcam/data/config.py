"""Opening the data that a training configuration names, without training."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from jsonargparse import ArgumentParser

from agcam import data  # noqa: F401  # so that CUB200 is known by its short name
from agcam.data.input_config import InputConfig
from agcam.data.module import ImageDataModule, Split
from agcam.data.source import Source
from agcam.errors import AgcamError, DataError, InputError, brief
from agcam.io.text import shown
from agcam.io.yaml import read_yaml


def find_config(checkpoint: Path | None) -> Path | None:
    """The `config.yaml` that train.py left beside a checkpoint's folder, if there is one."""
    if checkpoint is None:
        return None
    near = (parent / "config.yaml" for parent in list(checkpoint.resolve().parents)[:3])
    return next((path for path in near if path.is_file()), None)


def open_split(
    config: Path | None, options: Sequence[str], split: Split, model_input: InputConfig, chosen: bool = True
) -> tuple[ImageDataModule, Source]:
    """A split of the data in a configuration's `data:` section.

    Args:
        config: YAML; its other sections are not looked at.
        options: more, such as ["--data.root", "DIR"]; or all, with "--data CUB200" first.
        split: which one.
        model_input: what the model wants images to be where the data do not say.
        chosen: whether somebody named `config`. One that was found beside a checkpoint may name our own data sets
            only: the class of any other is code, and nobody said that it may run.

    Raises:
        InputError: if no data are named, or the options make no sense.
        DataError: if the configuration or the data cannot be read, or it names a class that it may not.
    """
    section = _data_section(config) if config is not None else None
    if section is None and not options:
        raise InputError("no data are named: give --config YAML, or --data NAME with its --data.* options")
    if not chosen and (foreign := next(_foreign(section), None)) is not None:
        raise DataError(f"{config}: names {shown(foreign)}, code from elsewhere; if you trust it, add --config FILE")
    given = [] if section is None else ["--data", json.dumps(section, default=str)]
    try:
        module = _make([*given, *options])
        module.prepare_data()
        module.fit_input(model_input)
        return module, module.open(split)
    except InputError as error:  # of what an argument is; what is wrong with a file names that file
        if config is None:
            raise
        raise InputError(f"{config}: {error}") from error


def _make(options: Sequence[str]) -> ImageDataModule:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data", required=True)
    try:
        return cast(ImageDataModule, parser.instantiate_classes(parser.parse_args([*options])).data)
    except AgcamError:
        raise
    except Exception as error:  # jsonargparse raises what an odd structure makes it stumble over
        raise InputError(f"the data's options do not fit: {brief(error, 800)}") from error


def _data_section(config: Path) -> Any:
    found = read_yaml(config)
    if not isinstance(found, dict) or not isinstance(found.get("data"), dict | str):
        raise DataError(f"{config}: has no data: section; expected one with class_path and init_args")
    return found["data"]


def _foreign(section: Any) -> Iterator[str]:
    """The classes in a `data:` section whose modules would have to be imported, or that are files."""
    if isinstance(section, str) and not section.isidentifier() and not section.startswith("agcam.data."):
        yield section
    elif isinstance(section, dict | list):
        for name, value in section.items() if isinstance(section, dict) else enumerate(section):
            if name == "class_path" or not isinstance(value, str):
                yield from _foreign(value)
