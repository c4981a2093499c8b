"""What the report calls things, and what they mean, in words for people who do not build such models."""

from __future__ import annotations

from dataclasses import dataclass

from agcam.explainers import registry as methods
from agcam.metrics.registry import registered


@dataclass(frozen=True)
class Word:
    """A name for people, a sentence or two of meaning, and whether more is better (None: neither)."""

    label: str
    help: str
    higher_is_better: bool | None = True


_RUN: dict[str, Word] = {
    "right_for_wrong_reason": Word(
        "Right for the wrong reason",
        "The class is right, but the hottest point lies outside of the object: perhaps the model learned the "
        "background. 1 or 0 for an image, their share for many.",
        False,
    ),
    "wrong_but_looking_right": Word(
        "Wrong, but looking right",
        "The class is wrong although the hottest point lies on the object: the model saw it and mistook it. 1 or "
        "0 for an image, their share for many.",
        None,
    ),
    "entropy": Word(
        "Spread of the heat",
        "0: all heat in one place; 1: the same heat everywhere. Neither is good in itself.",
        None,
    ),
    "drift": Word(
        "Drift since the last epoch",
        "How much the order of hot and cold places has changed since the epoch before: 0 not at all, 1 as if they "
        "had nothing to do with each other. It should calm down towards the end of training.",
        None,
    ),
    "accuracy": Word("Accuracy", "Share of validation images whose top-1 class is right."),
    "top5": Word("Right among five", "Share of images whose true class is among the model's first five choices."),
    "mAP": Word(
        "Mean average precision",
        "How well each class's images are ranked above the others; classes that no image shows are left out.",
    ),
    "loss": Word("Loss", "What training makes small: how far the model's answers are from the truth.", False),
    "lr": Word("Learning rate", "How large the steps of training are.", None),
}
"""What only runs have; the words of a metric stand in its declaration."""


def figure(name: str) -> Word:
    """Find the words of a value; an unknown one is called by its name."""
    values = [value for spec in registered().values() for value in spec.values]
    known = {value.short: value for value in reversed(values)} | {value.name: value for value in values}
    short = name.rpartition("/")[2]
    found = _RUN.get(name) or known.get(name) or _RUN.get(short) or known.get(short)
    if found is None or not found.label:
        return Word(name.replace("_", " ").replace("/", " "), "", None if found is None else found.higher_is_better)
    return Word(found.label, found.help, found.higher_is_better)


def method(label: str) -> str:
    """Say what a method does, with the options that its label names; nothing where no such method is known here."""
    spec = methods.registered(label)
    if spec is None:
        return ""
    options = label.rpartition(":")[2] if "=" in label else ""
    said = [spec.help, "" if spec.class_specific or spec.control else "It does not depend on the class."]
    return " ".join(filter(None, [*said, f"Here with {options.replace(',', ', ')}." if options else ""]))


def curve(name: str) -> Word:
    """Find the words of a curve; an unknown one is called by its name."""
    for spec in registered().values():
        for found in spec.curves:
            if found.name == name and found.label:
                return Word(found.label, found.help, found.higher_is_better)
    return Word(name.replace("_", " "), "", None)
