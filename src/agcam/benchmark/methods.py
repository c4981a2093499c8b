"""Which methods are compared: a name of `agcam.methods()`, with options where one asks for an ablation."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from agcam.errors import InputError
from agcam.explainers.explain import check_method, methods

CONTROLS = ("random", "center")
"""Heatmaps that know nothing of the image; every table carries them."""

DEFAULT = (
    "agcam",
    "raw_attention",
    "rollout",
    "lrp",
    "generic_attention",
    "attention_gradcam",
    "gradcam",
    "legrad",
    "agcam:feature_map=softmax",
    "agcam:gradient=full",
)
"""What the command compares unless told otherwise: every method that agcam itself holds, and the paper's ablations."""


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        label: as it was asked for, such as "agcam:feature_map=softmax".
        name: of `agcam.methods()`.
        options: keyword arguments for `agcam.explain`.
    """

    label: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def control(self) -> bool:
        """Whether its heatmaps know nothing of the image."""
        return self.name in CONTROLS


def parse_methods(labels: list[str]) -> list[Method]:
    """The methods of the labels "NAME" or "NAME:option=value,…", each once, and the controls at the end.

    "all" stands for the default ones and every other name of `agcam.methods()`.

    Example:
        >>> [method.label for method in parse_methods(["agcam", "rollout:head_fusion=max"])]
        ['agcam', 'rollout:head_fusion=max', 'random', 'center']

    Raises:
        InputError: for an unknown name or option, with the known ones.
    """
    everything = dict.fromkeys([*DEFAULT, *methods()])
    named = [name for label in labels for name in (everything if label == "all" else [label])]
    chosen = dict.fromkeys(name for name in named if name not in CONTROLS)
    return [_parse(label) for label in [*chosen, *CONTROLS]]


def _parse(label: str) -> Method:
    name, _, rest = label.partition(":")
    options: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        key, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"method {label!r}: found {pair!r}, expected option=value")
        options[key.strip()] = _value(text.strip())
    check_method(name, options)
    return Method(label, name, options)


def _value(text: str) -> Any:
    """A number, True, False or None where the text is one; else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
