"""What the report calls things, and what they mean, in words for people who do not build such models."""

from __future__ import annotations

from dataclasses import dataclass

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
    "map": Word("Mean average precision", "How well present classes are ranked above absent ones. 1 is perfect."),
    "loss": Word("Loss", "What training makes small: how far the model's answers are from the truth.", False),
    "lr": Word("Learning rate", "How large the steps of training are.", None),
}
"""What only runs have; the words of a metric stand in its declaration."""

METHODS = {
    "agcam": "Attention-Guided CAM: where the attention of the class token matters for the class, from one forward "
    "pass.",
    "raw_attention": "The attention of the class token, summed over layers. It does not depend on the class.",
    "rollout": "Attention followed through all layers (Abnar & Zuidema 2020). It does not depend on the class.",
    "lrp": "Relevance propagated backwards through the network (Chefer et al. 2021).",
    "generic_attention": "Attention weighted by its gradient, layer by layer (Chefer et al. 2021).",
    "attention_gradcam": "Grad-CAM on the class token's attention in the last layer.",
    "gradcam": "Grad-CAM on the patches of a late layer.",
    "legrad": "Gradients of the attention, summed over layers (Bousselham et al. 2024).",
    "input_x_gradient": "The gradient of the class with respect to each pixel, times the pixel.",
    "integrated_gradients": "Gradients collected on the way from a blank picture to this one.",
    "random": "A control: noise. A method that is no better than this explains nothing.",
    "center": "A control: always hot in the middle. Objects often are in the middle, so this scores better than noise.",
}


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
    """Say what a method does, with the options that its label names."""
    name, _, options = label.partition(":")
    known = METHODS.get(name, "")
    return f"{known} Here with {options.replace(',', ', ')}.".strip() if options else known


def curve(name: str) -> Word:
    """Find the words of a curve; an unknown one is called by its name."""
    for spec in registered().values():
        for found in spec.curves:
            if found.name == name and found.label:
                return Word(found.label, found.help, found.higher_is_better)
    return Word(name.replace("_", " "), "", None)
