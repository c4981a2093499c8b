"""The methods that are compared: names of `agcam.methods()` or functions, with options for the paper's ablations."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from agcam.benchmark.default_methods import DEFAULT
from agcam.errors import InputError
from agcam.explainers.registry import controls, find_method, methods


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        label: as the user wrote it, such as "agcam:feature_map=softmax".
        name: of `agcam.methods()`, or "my_package.module:function".
        options: keyword arguments for `agcam.explain`.
    """

    label: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def control(self) -> bool:
        """Whether its heatmaps know nothing of the image."""
        return find_method(self.name).control


def parse_methods(labels: list[str]) -> list[Method]:
    """Parse labels "NAME" or "NAME:option=value,…"; return each method once, the controls last.

    A name is one of `agcam.methods()`, or "my_package.module:function" for a function that is not registered. "all"
    stands for the default methods and every other registered one.

    Examples:
        >>> [method.label for method in parse_methods(["agcam", "rollout:head_fusion=max"])]
        ['agcam', 'rollout:head_fusion=max', 'random', 'center']

    Raises:
        InputError: for an unknown name or option, with the known ones.
    """
    everything = dict.fromkeys([*DEFAULT, *methods()])
    named = [name for label in labels for name in (everything if label == "all" else [label])]
    always = [name for name in everything if name in controls()]
    chosen = dict.fromkeys(name for name in named if name not in always)
    return [parse_method(label) for label in [*chosen, *always]]


def parse_method(label: str) -> Method:
    """Parse one label "NAME" or "NAME:option=value,…".

    Raises:
        InputError: as `parse_methods`.
    """
    name, _, rest = label.partition(":")
    function, _, options_of_function = rest.partition(":")
    if name not in methods() and function and "=" not in function:
        name, rest = f"{name}:{function}", options_of_function
    options: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        key, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"method {label!r}: found {pair!r}, expected option=value")
        options[key.strip()] = _value(text.strip())
    find_method(name, options)
    return Method(label, name, options)


def _value(text: str) -> Any:
    """Read a number, True, False or None where the text is one; else return the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
