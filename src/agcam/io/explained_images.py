"""Explained images as a panel: a folder of files that the report reads.

It holds `panel.json` (names, classes, scores) and `panel.npz` (heatmaps and masks, by number). Its pictures lie in
`images/` beside the folder and are named by their content, so that the panels of all epochs share one copy.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from agcam.errors import DataError, brief
from agcam.io.archives import refuse_bomb
from agcam.io.atomic import write_whole
from agcam.io.images import read_image
from agcam.io.json import from_json, to_json
from agcam.io.text import inside, quoted

SCHEMA = 1
PANEL, ARRAYS, IMAGES = "panel.json", "panel.npz", "images"
_JPEG_QUALITY = 90
Verdict = Literal["right", "wrong", ""]


@dataclass(frozen=True)
class Answer:
    """A class, and the probability that the model gives it, in [0, 1]."""

    name: str
    probability: float


@dataclass(frozen=True, eq=False)
class OtherClass:
    """The other class of an image that is taken for what it does not show: what the model said, or the label.

    Attributes:
        name: of the class.
        probability: that the model gives it.
        heatmaps: of this class, as those of `ExplainedImage`.
    """

    name: str
    probability: float
    heatmaps: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class ExplainedImage:
    """An image explained for one class by one method or several.

    Attributes:
        index: position in the data set; an image explained for several classes is several entries of one index.
        name: the image's name.
        image: (H, W, 3) uint8 RGB, as the model saw it.
        explained: the class that the heatmaps explain.
        truth: the classes that the image shows.
        predicted: the class with the highest logit.
        probability: of the explained class, in [0, 1].
        boxes: (n, 4) xyxy of the explained class, in pixels of `image`; n = 0 where none is known.
        mask: (H, W) bool, the pixels of the explained class, or None where unknown.
        heatmaps: by method, (h, w) float32 on the patch grid, or finer; they cover the image.
        figures: by method, by name: the scores of a single heatmap. NaN where the image is excluded.
        curves: by method, by name: the probability of the explained class along a perturbation.
        other: what the model said where that is wrong; the label, where the heatmaps explain what the model said.
        shares: the probabilities of the classes of `truth`, in their order; empty where unknown.
        also: in multi-label data, the classes that the image does not show and that get more than one half.
        multilabel: whether an image may show several classes, so that each is recognized or not.
    """

    index: int
    name: str
    image: np.ndarray
    explained: str
    truth: tuple[str, ...]
    predicted: str
    probability: float
    boxes: np.ndarray
    mask: np.ndarray | None
    heatmaps: dict[str, np.ndarray]
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    other: OtherClass | None = None
    shares: tuple[float, ...] = ()
    also: tuple[Answer, ...] = ()
    multilabel: bool = False

    @property
    def predicted_probability(self) -> float | None:
        """The probability of the predicted class; None where unknown."""
        known = dict(zip(self.truth, self.shares, strict=False)) | {self.explained: self.probability}
        if self.other is not None:
            known[self.other.name] = self.other.probability
        return known.get(self.predicted)

    @property
    def verdict(self) -> Verdict:
        """Whether the model is right, in multi-label data about the explained class; "" where the truth is unknown."""
        if not self.truth:
            return ""
        if self.multilabel:
            right = (self.probability > 0.5) == (self.explained in self.truth)
        else:
            right = self.predicted in self.truth
        return "right" if right else "wrong"


def false_alarms(
    shares: Sequence[float], present: Collection[int], class_name: Callable[[int], str]
) -> tuple[Answer, ...]:
    """Return the classes that get more than one half and are not present, the most probable first.

    Args:
        shares: the probability of each class.
        present: the classes that the image shows.
        class_name: names a class.
    """
    found = [(share, c) for c, share in enumerate(shares) if share > 0.5 and c not in present]
    return tuple(Answer(class_name(c), share) for share, c in sorted(found, key=lambda entry: -entry[0]))


@dataclass(frozen=True)
class _Entry:
    """An `ExplainedImage` as `panel.json` holds it: its picture by file name; mask and heatmaps lie in `panel.npz`."""

    index: int
    name: str
    image: str
    explained: str
    truth: list[str]
    predicted: str
    probability: float
    boxes: list[list[float]]
    figures: dict[str, dict[str, float]]
    curves: dict[str, dict[str, list[float]]]
    other: Answer | None = None
    shares: list[float] = field(default_factory=list)
    also: list[Answer] = field(default_factory=list)
    multilabel: bool = False


@dataclass(frozen=True)
class _Panel:
    """All that `panel.json` holds."""

    schema: int
    info: dict[str, Any]
    methods: list[str]
    shown: list[_Entry]


def write_panel(folder: Path, shown: Sequence[ExplainedImage], info: dict[str, Any]) -> None:
    """Write a panel; pictures go to `images/` beside `folder`, each once. `panel.json` is written last.

    Args:
        folder: made if missing; a panel in it is replaced.
        shown: in the order in which they are shown.
        info: further values that JSON can hold, such as {"stage": "val", "epoch": 7, "step": 320}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PANEL).unlink(missing_ok=True)
    methods = list(dict.fromkeys(method for entry in shown for method in entry.heatmaps))
    arrays: dict[str, Any] = {}
    entries = []
    for number, entry in enumerate(shown):
        arrays |= {
            f"{number}.{methods.index(method)}": heatmap.astype(np.float32)
            for method, heatmap in entry.heatmaps.items()
        }
        if entry.other is not None:
            arrays |= {
                f"{number}.{methods.index(method)}.other": heatmap.astype(np.float32)
                for method, heatmap in entry.other.heatmaps.items()
            }
        if entry.mask is not None:
            arrays[f"{number}.mask"] = entry.mask.astype(bool)
        entries.append(
            _Entry(
                index=entry.index,
                name=entry.name,
                image=_keep_image(entry.image, folder.parent / IMAGES),
                explained=entry.explained,
                truth=list(entry.truth),
                predicted=entry.predicted,
                probability=entry.probability,
                boxes=np.asarray(entry.boxes, np.float64).reshape(-1, 4).tolist(),
                figures=entry.figures,
                curves=entry.curves,
                other=None if entry.other is None else Answer(entry.other.name, entry.other.probability),
                shares=list(entry.shares),
                also=list(entry.also),
                multilabel=entry.multilabel,
            )
        )
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    write_whole(folder / ARRAYS, packed.getvalue())
    panel = _Panel(SCHEMA, info, methods, entries)
    # ASCII: names that no encoding holds (file names of any bytes) come back as they were
    write_whole(folder / PANEL, json.dumps(to_json(panel), allow_nan=False).encode("ascii"))


def read_panel(folder: Path) -> tuple[list[ExplainedImage], dict[str, Any]]:
    """Read what `write_panel` wrote: the entries and `info`.

    Raises:
        DataError: if a file is missing, broken or contradicts another, with its name.
    """
    panel = _read_panel_file(folder / PANEL)
    names = dict.fromkeys(entry.image for entry in panel.shown)
    if not all(Path(name).name == name for name in names):
        raise DataError(f"{folder / PANEL}: an image is not a plain file name; write the panel again")
    arrays = _read_arrays(folder / ARRAYS)
    stored = folder.parent / IMAGES
    images = {name: read_image(stored / inside(name, f"{folder / PANEL}")) for name in names}
    shown = []
    for number, entry in enumerate(panel.shown):
        try:
            shown.append(_explained(entry, number, images[entry.image], panel.methods, arrays))
        except ValueError as error:
            raise DataError(f"{folder / PANEL}: entry {number} is broken ({brief(error)}); write it again") from error
    return shown, panel.info


def _explained(
    entry: _Entry, number: int, image: np.ndarray, methods: list[str], arrays: dict[str, np.ndarray]
) -> ExplainedImage:
    mask = arrays.get(f"{number}.mask")
    heatmaps = {method: arrays[key] for k, method in enumerate(methods) if (key := f"{number}.{k}") in arrays}
    others = {method: arrays[key] for k, method in enumerate(methods) if (key := f"{number}.{k}.other") in arrays}
    if mask is not None and mask.shape != image.shape[:2]:
        raise ValueError(f"a mask is {mask.shape}, its image is {image.shape[:2]}")
    if any(heatmap.ndim != 2 or not heatmap.size for heatmap in [*heatmaps.values(), *others.values()]):
        raise ValueError("a heatmap is empty or has not two dimensions, expected (h, w)")
    known = {f.name: getattr(entry, f.name) for f in fields(entry)}
    changed = {"image": image, "truth": tuple(entry.truth), "boxes": np.array(entry.boxes, float).reshape(-1, 4)}
    changed |= {"shares": tuple(entry.shares), "also": tuple(entry.also)}
    if entry.other is not None:
        changed["other"] = OtherClass(entry.other.name, entry.other.probability, others)
    return ExplainedImage(**known | changed, mask=mask, heatmaps=heatmaps)


def _read_panel_file(path: Path) -> _Panel:
    try:
        found = json.loads(path.read_bytes())
        schema = found.get("schema") if isinstance(found, dict) else None
        if schema != SCHEMA:
            raise DataError(f"{path}: not a panel of schema {SCHEMA} (found {quoted(repr(schema))}); write it again")
        panel: _Panel = from_json(_Panel, found)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a panel that a run or a benchmark wrote") from None
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: not a panel ({brief(error)}); write it again") from error
    return panel


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        refuse_bomb(path)
        with np.load(path, allow_pickle=False) as found:
            # of a member that is no array NumPy returns the bytes: as an array they fail the checks of shapes
            return {name: np.asarray(found[name]) for name in found.files}
    except Exception as error:  # a damaged zip raises zlib's, tokenize's and half a dozen other errors
        raise DataError(f"{path}: missing or broken ({brief(error)}); it holds the heatmaps of {PANEL}") from error


def _keep_image(image: np.ndarray, folder: Path) -> str:
    """Store an image in `folder` unless it is there; return its file name."""
    pixels = np.ascontiguousarray(image)
    stem = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:20]
    for suffix in ("jpg", "png"):
        if (folder / f"{stem}.{suffix}").is_file():
            return f"{stem}.{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    jpeg, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    Image.fromarray(pixels).save(png, "PNG")
    # drawings and tiny images: exact and no larger
    suffix, kept = ("png", png) if len(png.getbuffer()) <= len(jpeg.getbuffer()) else ("jpg", jpeg)
    write_whole(folder / f"{stem}.{suffix}", kept.getvalue())
    return f"{stem}.{suffix}"
