"""The files of one explained photograph: overlays, raw heatmaps, and what the model saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from PIL import Image

from agcam.data.input_config import InputConfig
from agcam.data.photographs import Photograph, shrink
from agcam.data.transforms import visible_box, visible_part
from agcam.errors import InputError
from agcam.io.atomic import whole_file
from agcam.io.names import safe_name
from agcam.training.explain_files import ExplainedPhotograph
from agcam.visualization.photograph import Style, draw_heat

MAX_SIDE = 1600
_VIEW_SIDE = 448
_QUALITY = 88
Overlays = Literal["jpeg", "png"]


@dataclass(frozen=True)
class Drawing:
    """How overlays are drawn and kept.

    Attributes:
        style: of the heat.
        overlays: their format.
        max_side: longest side of an overlay in pixels; photographs are reduced to it, never enlarged.
    """

    style: Style = field(default_factory=Style)
    overlays: Overlays = "jpeg"
    max_side: int = MAX_SIDE

    def check(self) -> None:
        """Check the values.

        Raises:
            InputError: if one makes no sense.
        """
        self.style.check()
        if self.max_side < 32:
            raise InputError(f"--max-side must be at least 32 pixels, found {self.max_side}")


def drawing_settings(drawing: Drawing) -> dict[str, Any]:
    """Return what overlays depend on, named as the user knows it."""
    style = {f"--{name}": value for name, value in asdict(drawing.style).items()}
    return {"--overlays": drawing.overlays, "--max-side": drawing.max_side, **style}


def write_files(
    output: Path, stem: str, photograph: Photograph, found: ExplainedPhotograph, config: InputConfig, drawing: Drawing
) -> dict[str, Any]:
    """Write the files of a photograph and return its entry of `predictions.json`.

    Raises:
        OutputError: if one cannot be written.
    """
    picture = photograph.picture
    assert picture is not None  # it was read for drawing
    with whole_file(output / f"{stem}.npz") as part, part.open("wb") as raw:
        np.savez(raw, heatmaps=found.heatmaps, targets=np.array(found.targets), classes=np.array(found.classes))
    classes = write_overlays(output, stem, picture, found, config, drawing)
    _save(shrink(visible_part(picture, config), _VIEW_SIDE), output / f"{stem}.view.jpg", "jpeg")
    width, height = photograph.size
    return {
        "stem": stem,
        "size": [width, height],
        "visible": list(visible_box(height, width, config)),
        "view": f"{stem}.view.jpg",
        "heatmaps": f"{stem}.npz",
        "predicted": found.predicted,
        "classes": classes,
    }


def write_overlays(
    output: Path, stem: str, picture: np.ndarray, found: ExplainedPhotograph, config: InputConfig, drawing: Drawing
) -> list[dict[str, Any]]:
    """Write an overlay for each class; return the entry of each.

    Raises:
        OutputError: if one cannot be written.
    """
    suffix = "jpg" if drawing.overlays == "jpeg" else "png"
    classes, taken = [], set[str]()
    drawn = draw_overlays(picture, list(found.placed), config, drawing.style)
    for target, name, probability, overlay in zip(
        found.targets, found.classes, found.probabilities, drawn, strict=True
    ):
        file = f"{stem}.{safe_name(name)}.{suffix}"
        file = f"{stem}.{safe_name(name)}_{target}.{suffix}" if file in taken else file
        taken.add(file)
        _save(overlay, output / file, drawing.overlays)
        classes.append({"class": name, "index": target, "probability": probability, "overlay": file})
    return classes


def draw_overlays(
    picture: np.ndarray, heatmaps: Sequence[np.ndarray], config: InputConfig, style: Style
) -> Iterator[np.ndarray]:
    """Draw heatmaps, as they cover what the model saw, over a whole picture (H, W, 3) uint8 RGB, an overlay each."""
    return draw_heat(picture, heatmaps, visible_box(picture.shape[0], picture.shape[1], config), style)


def say_seen_part(config: InputConfig) -> str:
    """Say what the model sees of a photograph, or nothing if that is all of it."""
    if config.resize == "squash":
        return ""
    return (
        f"the model sees the central square of {config.crop_pct:.1%} of the shorter side; overlays show the rest of a "
        "photograph without heat"
    )


def encode_overlay(image: np.ndarray, file: Path | IO[bytes], kind: Overlays) -> None:
    """Write an overlay (H, W, 3) uint8 RGB to a file."""
    if kind == "jpeg":
        Image.fromarray(image).save(file, "JPEG", quality=_QUALITY)
    else:
        Image.fromarray(image).save(file, "PNG", compress_level=1)


def _save(image: np.ndarray, path: Path, kind: Overlays) -> None:
    with whole_file(path) as part:
        encode_overlay(image, part, kind)
