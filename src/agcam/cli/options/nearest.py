"""Known names that resemble an unknown one."""

from __future__ import annotations

import importlib
import sys
from argparse import ArgumentParser as StandardParser
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from jsonargparse import ArgumentParser


def near_option(name: str, parser: StandardParser | None, owner: str = "", key: str = "") -> str:
    """Return the known option that resembles `name` most; empty if none does.

    Args:
        name: the whole name, such as `model.learning_rat`.
        parser: knows the command's options.
        owner: import path of the class that should take the option.
        key: the part of `name` that chose that class, such as `data`.
    """
    known = [option[2:] for option in getattr(parser, "_option_string_actions", {}) if option.startswith("--")]
    if owner:
        known += [f"{key}.{option}" for option in _parameters(owner)]
    known = [option for option in known if not option.endswith((".help", "help", "+"))]
    last = name.rpartition(".")[2]
    same_end = [option for option in known if "." in option and option.rpartition(".")[2] == last]
    return next(iter(get_close_matches(name, known, 1, 0.8) or same_end), "")


def near_classes(name: str, bases: Sequence[str]) -> list[str]:
    """Return the loaded subclass of one of `bases` whose name resembles `name` most; all of them if they are few."""
    known = sorted({kind.__name__ for base in bases for kind in _subclasses(_load(base))})
    near = get_close_matches(name.rpartition(".")[2], known, 1, 0.6)
    return near or (known if len(known) < 9 else [])


def relatives_with(option: str, owner: str) -> list[str]:
    """Return the loaded classes with the base of class `owner` that have an option, by name."""
    kind = _load(owner)
    relatives = _subclasses(kind.__mro__[1]) if kind is not None else []
    return sorted({r.__name__ for r in relatives if option in _parameters(f"{r.__module__}.{r.__qualname__}")})


def _parameters(owner: str) -> Iterable[str]:
    kind = _load(owner)
    if kind is None:
        return []
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, fail_untyped=False)
    return [option[2:] for option in parser._option_string_actions if option.startswith("--")]


def _load(path: str) -> type | None:
    """Return a class if its module is loaded already: a search for names must not run code."""
    module, _, name = path.rpartition(".")
    if module not in sys.modules:
        return None
    found = getattr(importlib.import_module(module), name, None)
    return found if isinstance(found, type) else None


def _subclasses(kind: type | None) -> Iterable[type]:
    """Yield public subclasses at any depth, without those of tests."""
    children: list[type] = kind.__subclasses__() if kind is not None else []
    for child in children:
        if not child.__name__.startswith(("_", "Dummy")) and child.__module__.partition(".")[0] in (
            "agcam",
            "lightning",
            "torch",
        ):
            yield child
        yield from _subclasses(child)
