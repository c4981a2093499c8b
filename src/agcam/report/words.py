"""What the report calls things, and what they mean, in words for people who do not build such models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A name for people, a sentence or two of meaning, and whether more is better (None: neither)."""

    label: str
    help: str
    higher: bool | None = True


_OVERLAP = {
    "iou": Word(
        "Overlap (IoU)",
        "How well the hot region and the object cover each other: their common area divided by the area that either "
        "covers. 1 is a perfect match, 0 no overlap.",
    ),
    "dice": Word("Dice", "Overlap like IoU, but kinder to partial matches. 1 is a perfect match, 0 no overlap."),
    "pixel_accuracy": Word(
        "Pixel accuracy",
        "Share of all pixels on which hot region and object agree. High for small objects even if the object is "
        "missed, because most of the picture is background.",
    ),
    "precision": Word("Precision", "Share of the hot region that lies on the object."),
    "recall": Word("Recall", "Share of the object that the hot region covers."),
}
_PAPER = " By the paper's protocol: only images with one class, recognised correctly."
FIGURES: dict[str, Word] = (
    _OVERLAP
    | {f"localization/{name}": word for name, word in _OVERLAP.items()}
    | {
        f"leem2024/{name}": Word(f"{word.label}, paper's protocol", word.help + _PAPER)
        for name, word in _OVERLAP.items()
    }
    | {
        "max_box_acc": Word(
            "Box accuracy, best threshold",
            "Share of images where a box around the largest hot region matches the object's box (overlap at least "
            "one half). The threshold that works best here was chosen afterwards, which flatters; for a single image, "
            "whether any threshold works.",
        ),
        "gt_known_loc": Word(
            "Box accuracy, fixed threshold",
            "Share of images where a box around the largest hot region (above half of the maximum) matches the "
            "object's box. For a single image 1 or 0.",
        ),
        "top1_loc": Word(
            "Right class and right box", "As box accuracy at the fixed threshold, but the class must be right, too."
        ),
        "max_box_acc_v2": Word(
            "Box accuracy, three strictnesses",
            "As box accuracy, but any hot region may match, and the result is the mean over a loose, a medium and a "
            "strict idea of matching (overlap 0.3, 0.5, 0.7).",
        ),
        "pxap": Word(
            "Pixel average precision",
            "How well the heat sorts the pixels into object and background, over all thresholds. 1 is perfect.",
        ),
        "segmentation/pixel_accuracy": Word(
            "Pixel accuracy, cut at the mean",
            "Share of pixels that are right when everything hotter than average counts as object.",
        ),
        "segmentation/miou": Word(
            "Mean IoU, cut at the mean",
            "Overlap, averaged over object and background, when everything hotter than average counts as object.",
        ),
        "segmentation/map": Word(
            "Mean average precision", "How well the heat ranks object pixels above background pixels. 1 is perfect."
        ),
        "pointing_game": Word(
            "Peak on the object", "Does the hottest point lie on the object? 1 or 0 for an image, their share for many."
        ),
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
        "energy_pointing_game": Word("Heat on the object", "Share of all the heat that lies on the object."),
        "abpc": Word(
            "Faithfulness (ABPC)",
            "Pixels are removed step by step. Without its most relevant pixels a class should fade at once, without "
            "the least relevant ones hardly. This is the difference between the two: higher means that the heat "
            "marks what the model really uses, 0 that it marks nothing in particular.",
        ),
        "lerf_auc": Word(
            "Least relevant first",
            "Mean probability of the class while the coldest pixels are removed first. It should stay high.",
        ),
        "morf_auc": Word(
            "Most relevant first",
            "Mean probability of the class while the hottest pixels are removed first. It should fall fast.",
            False,
        ),
        "insertion": Word(
            "Insertion",
            "Mean probability of the class while a blurred picture is uncovered, the hottest pixels first. It should "
            "rise fast.",
        ),
        "deletion": Word(
            "Deletion",
            "Mean probability of the class while the hottest pixels are removed first, in 20 steps. It should fall "
            "fast.",
            False,
        ),
        "positive": Word(
            "Hit rate, hottest gone first",
            "Share of images still recognised while the hottest pixels are removed first. It should fall fast.",
            False,
        ),
        "negative": Word(
            "Hit rate, coldest gone first",
            "Share of images still recognised while the coldest pixels are removed first. It should stay high.",
        ),
        "road": Word(
            "ROAD", "As the hit rates, with removed pixels painted over smoothly, coldest first minus hottest first."
        ),
        "sanity/cascading_spearman": Word(
            "Similarity after scrambling, ranks",
            "How much the heatmap resembles that of a model whose layers were scrambled one after the other, from the "
            "last one on. A heatmap that explains this model should change: low is good.",
            False,
        ),
        "sanity/cascading_ssim": Word(
            "Similarity after scrambling, structure", "The same, comparing the look of the maps. Low is good.", False
        ),
        "sanity/independent_spearman": Word(
            "Similarity after scrambling one layer, ranks", "The same with one layer at a time. Low is good.", False
        ),
        "sanity/independent_ssim": Word(
            "Similarity after scrambling one layer, structure", "The same, comparing the look. Low is good.", False
        ),
        "accuracy": Word("Accuracy", "Share of validation images whose first choice is right."),
        "top5": Word("Right among five", "Share of images whose true class is among the model's first five choices."),
        "map": Word(
            "Mean average precision",
            "How well each class's images are ranked above the others; classes that no image shows are left out.",
        ),
        "loss": Word("Loss", "What training makes small: how far the model's answers are from the truth.", False),
        "lr": Word("Learning rate", "How large the steps of training are.", None),
    }
)

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

CURVES = {
    "morf": Word(
        "Most relevant pixels removed first",
        "The class's probability while the hottest pixels go first. A faithful heatmap makes it fall at once.",
        False,
    ),
    "lerf": Word(
        "Least relevant pixels removed first",
        "The class's probability while the coldest pixels go first. A faithful heatmap keeps it high for long.",
    ),
    "insertion": Word(
        "Blurred picture uncovered, hottest first",
        "The class's probability while a blurred picture is uncovered. A faithful heatmap makes it rise at once.",
    ),
    "deletion": Word(
        "Hottest pixels deleted, 20 steps", "As “most relevant first”, in finer steps. It should fall at once.", False
    ),
    "iou_sweep": Word(
        "Overlap at every threshold",
        "Overlap (IoU) of the region hotter than a threshold with the object, for thresholds from low to high.",
    ),
    "box_accuracy": Word(
        "Box accuracy at every threshold",
        "Share of images where a box around the largest hot region matches the object's, by threshold.",
    ),
    "positive": Word("Recognised, hottest gone first", "Share of images still recognised. It should fall.", False),
    "negative": Word("Recognised, coldest gone first", "Share of images still recognised. It should stay high."),
    "road_lerf": Word("ROAD, coldest painted over first", "Share of images still recognised. It should stay high."),
    "road_morf": Word("ROAD, hottest painted over first", "Share of images still recognised. It should fall.", False),
}


def figure(name: str) -> Word:
    """The words of a figure; an unknown one is called by its name."""
    known = FIGURES.get(name) or FIGURES.get(name.rpartition("/")[2])
    return known or Word(name.replace("_", " ").replace("/", " "), "", None)


def method(label: str) -> str:
    """What a method does, with the options that its label names."""
    name, _, options = label.partition(":")
    known = METHODS.get(name, "")
    return f"{known} Here with {options.replace(',', ', ')}.".strip() if options else known


def curve(name: str) -> Word:
    """The words of a curve."""
    return CURVES.get(name) or Word(name.replace("_", " "), "", None)
