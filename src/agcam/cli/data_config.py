"""Open the data that a training configuration names, without training."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from jsonargparse import ArgumentParser, Namespace

from agcam import data  # noqa: F401  # so that CUB200 is known by its short name
from agcam.cli.options import Given, blame, refused
from agcam.data.input_config import InputConfig
from agcam.data.module import ImageDataModule, Split
from agcam.data.source import ExampleDataset
from agcam.errors import AgcamError, DataError, InputError
from agcam.io.text import quoted
from agcam.io.yaml import read_yaml
from agcam.training.remote import is_remote


def find_config(checkpoint: Path | None) -> Path | None:
    """Find the `config.yaml` that `agcam fit` left beside a checkpoint's folder; None if there is none."""
    if checkpoint is None or is_remote(checkpoint):
        return None
    near = (parent / "config.yaml" for parent in list(checkpoint.resolve().parents)[:3])
    return next((path for path in near if path.is_file()), None)


def open_split(
    config: Path | None, options: Sequence[str], split: Split, model_input: InputConfig, chosen: bool = True
) -> tuple[ImageDataModule, ExampleDataset]:
    """Open a split of the data in a configuration's `data:` section.

    Args:
        config: a YAML file; its other sections are ignored.
        options: further options, such as ["--data.root", "DIR"], or all of them, with "--data CUB200" first.
        split: which split.
        model_input: the model's input, for what the data do not say.
        chosen: whether the user named `config`. One that was found beside a checkpoint may name our own data sets
            only: any other class is code that the user did not ask to run.

    Raises:
        InputError: if no data are named, or an option is wrong.
        DataError: if the configuration or the data cannot be read, or the configuration names a foreign class.
    """
    section = _data_section(config) if config is not None else None
    if section is None and not options:
        raise InputError("no data are named: give --config YAML, or --data NAME with its --data.* options")
    if not chosen and (foreign := next(_foreign(section), None)) is not None:
        raise DataError(
            f"{config}: names {quoted(foreign)}, code from elsewhere; if you trust it, add --config {config}"
        )
    given = [] if section is None else ["--data", json.dumps(section, default=str)]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data", required=True)
    try:
        parsed = parser.parse_args([*given, *options])
    except AgcamError:
        raise
    except Exception as error:  # jsonargparse raises errors of many kinds for an odd structure
        raise _blame(error, parser, given, options, config) from error
    try:
        module = cast(ImageDataModule, _make(parser, parsed))
        module.prepare_data()
        module.fit_input(model_input)
        return module, module.plant(module.open(split), split)
    except InputError as error:  # about an argument; errors about a file name that file
        if config is None or _names_one(options, str(error)):
            raise
        raise InputError(f"{config}: {error}") from error


def _make(parser: ArgumentParser, parsed: Namespace) -> Any:
    try:
        return parser.instantiate_classes(parsed).data
    except Exception as error:
        raise refused(error) from error


def _blame(
    error: Exception, parser: ArgumentParser, given: Sequence[str], options: Sequence[str], config: Path | None
) -> InputError:
    def fails_alone(file: Path, message: str) -> bool:
        try:
            parser.parse_args([*given])
        except Exception as again:  # as above
            return str(again) == message
        return False

    files = [config] if config is not None else []
    return blame(error, Given(options, files, parser, "agcam fit --help", fails_alone))


def _names_one(options: Sequence[str], said: str) -> bool:
    """Return whether a message names one of the options of the command line."""
    names = [option.partition("=")[0].rpartition(".")[2] for option in options if option.startswith("--data.")]
    return any(re.search(rf"\b{re.escape(name)}\b", said) for name in names)


def _data_section(config: Path) -> Any:
    found = read_yaml(config)
    if not isinstance(found, dict) or not isinstance(found.get("data"), dict | str):
        raise DataError(f"{config}: has no data: section; expected one with class_path and init_args")
    return found["data"]


def _foreign(section: Any) -> Iterator[str]:
    """Yield the classes in a `data:` section whose modules would have to be imported, or that are files."""
    if isinstance(section, str) and not section.isidentifier() and not section.startswith("agcam.data."):
        yield section
    elif isinstance(section, dict | list):
        for name, value in section.items() if isinstance(section, dict) else enumerate(section):
            if name == "class_path" or not isinstance(value, str):
                yield from _foreign(value)
