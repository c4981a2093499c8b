"""Explained images as a panel: a folder of files that the report reads.

It holds `panel.json` (names, classes, scores) and `panel.npz` (heatmaps and masks, by number). Its pictures lie in
`images/` beside the folder and are named by their content, so that the panels of all epochs share one copy.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from agcam.errors import DataError, brief
from agcam.io.archives import refuse_bomb
from agcam.io.atomic import write_whole
from agcam.io.images import read_image
from agcam.io.text import inside

SCHEMA = 1
PANEL, ARRAYS, IMAGES = "panel.json", "panel.npz", "images"
_JPEG_QUALITY = 90


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
        if entry.mask is not None:
            arrays[f"{number}.mask"] = entry.mask.astype(bool)
        entries.append(
            {
                "index": entry.index,
                "name": entry.name,
                "image": _keep_image(entry.image, folder.parent / IMAGES),
                "explained": entry.explained,
                "truth": entry.truth,
                "predicted": entry.predicted,
                "probability": entry.probability,
                "boxes": np.asarray(entry.boxes, np.float64).reshape(-1, 4).tolist(),
                "figures": entry.figures,
                "curves": entry.curves,
            }
        )
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    write_whole(folder / ARRAYS, packed.getvalue())
    panel = {"schema": SCHEMA, "info": info, "methods": methods, "shown": entries}
    # ASCII: names that no encoding holds (file names of any bytes) come back as they were
    write_whole(folder / PANEL, json.dumps(_plain(panel), allow_nan=False).encode("ascii"))


def read_panel(folder: Path) -> tuple[list[ExplainedImage], dict[str, Any]]:
    """Read what `write_panel` wrote: the entries and `info`.

    Raises:
        DataError: if a file is missing, broken or contradicts another, with its name.
    """
    panel = _read_panel_file(folder / PANEL)
    try:
        methods, entries, info = panel["methods"], panel["shown"], dict(panel["info"])
        names = [entry["image"] for entry in entries]
        known = all(isinstance(name, str) and Path(name).name == name for name in names)
        if not known or not all(isinstance(method, str) for method in methods):
            raise DataError(
                f"{folder / PANEL}: not a panel: an image is no plain file name, or a method no text; write it again"
            )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder / PANEL}: not a panel ({type(error).__name__}: {brief(error)})") from error
    arrays = _read_arrays(folder / ARRAYS)
    stored = folder.parent / IMAGES
    images = {name: read_image(stored / inside(name, f"{folder / PANEL}")) for name in dict.fromkeys(names)}
    shown = []
    for number, entry in enumerate(entries):
        try:
            shown.append(_entry(entry, number, images[entry["image"]], methods, arrays))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{folder / PANEL}: entry {number} is broken ({type(error).__name__}: {brief(error)})"
            ) from error
    return shown, info


def _entry(
    entry: dict[str, Any], number: int, image: np.ndarray, methods: list[str], arrays: dict[str, np.ndarray]
) -> ExplainedImage:
    mask = arrays.get(f"{number}.mask")
    heatmaps = {method: arrays[key] for k, method in enumerate(methods) if (key := f"{number}.{k}") in arrays}
    boxes = np.asarray(entry["boxes"], dtype=np.float64).reshape(-1, 4)
    if mask is not None and mask.shape != image.shape[:2]:
        raise ValueError(f"a mask is {mask.shape}, its image is {image.shape[:2]}")
    if any(heatmap.ndim != 2 or not heatmap.size for heatmap in heatmaps.values()):
        raise ValueError("a heatmap is empty or has not two dimensions, expected (h, w)")
    texts = (entry["name"], entry["explained"], entry["predicted"], *entry["truth"])
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a name or class is no text")
    return ExplainedImage(
        index=int(entry["index"]),
        name=entry["name"],
        image=image,
        explained=entry["explained"],
        truth=tuple(entry["truth"]),
        predicted=entry["predicted"],
        probability=_number(entry["probability"]),
        boxes=boxes,
        mask=mask,
        heatmaps=heatmaps,
        figures={m: {n: _number(v) for n, v in figures.items()} for m, figures in entry["figures"].items()},
        curves={m: {n: [_number(v) for v in curve] for n, curve in c.items()} for m, c in entry["curves"].items()},
    )


def _read_panel_file(path: Path) -> dict[str, Any]:
    try:
        panel = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a panel that a run or a benchmark wrote") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable ({brief(error)})") from error
    if not isinstance(panel, dict) or panel.get("schema") != SCHEMA:
        found = repr(panel.get("schema"))[:80] if isinstance(panel, dict) else None
        raise DataError(f"{path}: not a panel of schema {SCHEMA} (found {found}); write it again with this version")
    return panel


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        refuse_bomb(path)
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
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


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
