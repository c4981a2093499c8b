"""Explanations for people at a notebook: a figure over the images, and a small table without them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from agcam.errors import InputError
from agcam.explainers.explain import Explanation
from agcam.visualization.heatmap_grid import Scaling, heatmap_grid
from agcam.visualization.overlay import COLORMAP, resize_map

_CLASSES = 8
_ROWS = 8
_PIXELS = 112
_CELL = 1.6


def figure_of(
    explanation: Explanation,
    images: Tensor | Sequence[np.ndarray | Image.Image],
    titles: Sequence[str] = (),
    scaling: Scaling = "own",
    contour: float | None = None,
) -> Figure:
    """`Explanation.plot`; arguments and errors there."""
    pixels = _pixels(explanation, images)
    slots, note = _slots(explanation)
    maps = explanation.heatmaps.detach().float().cpu().numpy()
    targets = explanation.targets.cpu().gather(1, slots).tolist()
    names = [[_name(explanation, target) for target in row] for row in targets]
    shares = _probabilities(explanation).gather(1, slots).tolist()
    labels = names[0]  # of columns, if all images are explained for the same classes
    if any(row != labels for row in names) or len(set(labels)) < len(labels):
        labels = [f"heatmap {n}" for n in range(1, len(labels) + 1)] if len(labels) > 1 else ["heatmap"]
    columns, captions = {}, {}
    for column, label in enumerate(labels):
        columns[label] = [maps[row, slot] for row, slot in enumerate(slots[:, column].tolist())]
        captions[label] = [
            f"{share[column]:.0%}" if label == name[column] else f"{name[column]} {share[column]:.0%}"
            for name, share in zip(names, shares, strict=True)
        ]
    units = f"{explanation.method or 'the method'}'s own units"
    figure = heatmap_grid(pixels, columns, titles, captions, scaling, units, contour, cell=_CELL, note=note)
    if figure is None:
        raise InputError("none of the heatmaps is finite; there is nothing to plot")
    return figure


def html_of(explanation: Explanation) -> str:
    """The heatmaps as a table that needs no images, the most probable classes of the first images."""
    slots, note = _slots(explanation)
    maps = explanation.heatmaps.detach().float().cpu().numpy()
    probabilities = _probabilities(explanation)
    rows = []
    for row in range(min(len(maps), _ROWS)):
        cells = [
            f'<td style="text-align:center"><img src="{_picture(maps[row, slot])}" width="{_PIXELS}" alt="heatmap" '
            f'style="image-rendering:pixelated"><br>{_escaped(explanation, row, slot)} '
            f"{probabilities[row, slot]:.0%}</td>"
            for slot in slots[row].tolist()
        ]
        rows.append(f"<tr><th>image {row}</th>{''.join(cells)}</tr>")
    batch, classes, height, width = maps.shape
    more = f"the first {_ROWS} of {batch} images" if batch > _ROWS else ""
    said = [f"{explanation.method or 'Explanation'}: {batch} × {classes} heatmaps of {height}×{width} patches"]
    said += [part for part in (more, note) if part]
    said += ["each scaled to its own extremes", "plot(images) lays them over the images"]
    return f"<table>{''.join(rows)}</table><p>{html.escape(' · '.join(said))}</p>"


def _pixels(explanation: Explanation, images: Tensor | Sequence[np.ndarray | Image.Image]) -> list[np.ndarray]:
    """The images as (H, W, 3) uint8 RGB."""
    if len(images) != len(explanation.heatmaps):
        raise InputError(f"{len(images)} images for {len(explanation.heatmaps)} explained ones; give the same batch")
    if not isinstance(images, Tensor):
        return [_checked(np.asarray(i.convert("RGB") if isinstance(i, Image.Image) else i)) for i in images]
    if images.dim() != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise InputError(
            f"images must be the tensor (B, 3, H, W) that was explained, or a list of (H, W, 3) uint8 arrays, found "
            f"{tuple(images.shape)} {images.dtype}"
        )
    shown, facts = images.detach().float().cpu(), explanation.facts
    if facts.mean is not None and facts.std is not None:
        shown = shown * torch.tensor(facts.std).view(3, 1, 1) + torch.tensor(facts.mean).view(3, 1, 1)
    else:  # nobody knows how they were normalised: as bright as they can be
        low, high = shown.amin((1, 2, 3), keepdim=True), shown.amax((1, 2, 3), keepdim=True)
        shown = (shown - low) / (high - low).clamp(min=1e-12)
    return list(shown.mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())


def _checked(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"an image must be (H, W, 3) uint8 RGB, found {image.shape} {image.dtype}")
    return image


def _slots(explanation: Explanation) -> tuple[Tensor, str]:
    """Which of the explained classes are shown, (B, n), and what to say of it: all, or the most probable."""
    batch, count = explanation.targets.shape
    if count <= _CLASSES:
        return torch.arange(count).expand(batch, -1), ""
    logits = explanation.logits.detach().float().cpu().gather(1, explanation.targets.cpu())
    return logits.topk(_CLASSES, dim=1).indices, f"the {_CLASSES} most probable of {count} explained classes"


def _probabilities(explanation: Explanation) -> Tensor:
    """Of the explained classes, (B, T)."""
    logits = explanation.logits.detach().float().cpu()
    probabilities = logits.sigmoid() if explanation.facts.multilabel else logits.softmax(1)
    return probabilities.gather(1, explanation.targets.cpu())


def _name(explanation: Explanation, target: int) -> str:
    names = explanation.facts.class_names
    return names[target] if target < len(names) else f"class {target}"


def _escaped(explanation: Explanation, row: int, slot: int) -> str:
    return html.escape(_name(explanation, int(explanation.targets[row, slot])))


def _picture(heatmap: np.ndarray) -> str:
    """A heatmap as the data URI of a PNG with a pixel a patch; black where it is not finite."""
    known = heatmap if np.isfinite(heatmap).all() else np.zeros_like(heatmap)
    scaled = resize_map(known, (heatmap.shape[0], heatmap.shape[1]))
    colors = (mpl.colormaps[COLORMAP](scaled)[..., :3] * 255).round().astype(np.uint8)
    packed = io.BytesIO()
    Image.fromarray(colors).save(packed, "PNG")
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}"
