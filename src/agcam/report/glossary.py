"""The report's names of values, methods and curves, and what they mean, for people who do not build such models."""

from __future__ import annotations

from dataclasses import dataclass

from agcam.explainers import registry as methods
from agcam.metrics.registry import registered


@dataclass(frozen=True)
class Word:
    """A name for people, its meaning in a sentence or two, and whether higher is better (None: neither)."""

    label: str
    help: str
    higher_is_better: bool | None = True


_RUN: dict[str, Word] = {
    "right_for_wrong_reason": Word(
        "Right for the wrong reason",
        "The class is right, but the hottest point lies outside the object: perhaps the model learned the "
        "background. 1 or 0 for one image, the share of 1 for many.",
        False,
    ),
    "wrong_but_looking_right": Word(
        "Wrong, but looking right",
        "The class is wrong although the hottest point lies on the object: the model saw it and mistook it. 1 or "
        "0 for one image, the share of 1 for many.",
        None,
    ),
    "entropy": Word(
        "Spread of the heat",
        "0: all heat in one place; 1: the same heat everywhere. Neither is good in itself.",
        None,
    ),
    "drift": Word(
        "Drift since the last epoch",
        "How much the order of hot and cold places has changed since the epoch before: 0 not at all, 1 as if the "
        "two were unrelated. It should decrease towards the end of training.",
        None,
    ),
    "accuracy": Word("Top-1 accuracy (right class)", "Share of images whose top-1 class is right."),
    "top5": Word(
        "Top-5 accuracy (among the five)", "Share of images whose class is among the model's five most probable ones."
    ),
    "mAP": Word(
        "mAP (mean average precision)",
        "How well each class's images are ranked above the others; classes that no image shows are excluded.",
    ),
    "loss": Word("Loss", "How far the model's answers are from the truth. Training makes it small.", False),
    "lr": Word("Learning rate", "How large the steps of training are.", None),
}
"""The values of training runs; the words of a metric stand in its declaration."""


def value(name: str) -> Word:
    """Find the words of a value; those of an unknown one are made from its name."""
    values = [own for spec in registered().values() for own in spec.values]
    known = {own.short: own for own in reversed(values)} | {own.name: own for own in values}
    short = name.rpartition("/")[2]
    found = _RUN.get(name) or known.get(name) or _RUN.get(short) or known.get(short)
    if found is None or not found.label:
        return Word(name.replace("_", " ").replace("/", " "), "", None if found is None else found.higher_is_better)
    return Word(found.label, found.help, found.higher_is_better)


def method(label: str) -> str:
    """Describe a method, with the options in its label; empty for an unknown one."""
    spec = methods.registered(label)
    if spec is None:
        return ""
    options = label.rpartition(":")[2] if "=" in label else ""
    said = [spec.help, "" if spec.class_specific or spec.control else "It does not depend on the class."]
    return " ".join(filter(None, [*said, f"Here with {options.replace(',', ', ')}." if options else ""]))


def curve(name: str) -> Word:
    """Find the words of a curve; those of an unknown one are made from its name."""
    for spec in registered().values():
        for found in spec.curves:
            if found.name == name and found.label:
                return Word(found.label, found.help, found.higher_is_better)
    return Word(name.replace("_", " "), "", None)
