"""The result of explaining a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from agcam.errors import InputError
from agcam.explainers.model_info import ModelInfo

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from PIL import Image

_CLASSES = 8


@dataclass(frozen=True)
class Explanation:
    """Where the model looked. Notebooks show the heatmaps; `plot(images)` lays them over the images.

    Attributes:
        logits: (B, C) float.
        targets: (B, T) int64, the explained classes.
        heatmaps: (B, T, h, w) float32 on the patch grid, in the method's own units.
        method: its name.
        model_info: names of the classes and the like, as far as the model knows them.
    """

    logits: Tensor
    targets: Tensor
    heatmaps: Tensor
    method: str = ""
    model_info: ModelInfo = field(default=ModelInfo(), repr=False)

    def plot(
        self,
        images: Tensor | Sequence[np.ndarray | Image.Image],
        titles: Sequence[str] = (),
        scaling: Literal["own", "common"] = "own",
        contour: float | None = None,
    ) -> Figure:
        """Draw the heatmaps over their images: images down, classes across, a colour bar beneath.

        The images are not kept with the explanation, which would hold a thousand times its memory. Of more than 8
        explained classes the most probable ones are drawn.

        Example:
            >>> agcam.explain(model, images).plot(images).savefig("where.pdf")  # or .svg, .png

        Args:
            images: the tensor (B, 3, H, W) that was explained; or what it was made of, at its own resolution: B
                pictures, each a (H, W, 3) uint8 array or a PIL image.
            titles: names of the images, left of them.
            scaling: "own" scales each map to its own extremes, which shows where; "common" gives all maps one scale in
                the method's units, which shows how much, too.
            contour: a line around what is hotter than this share of the scale, such as 0.5.

        Returns:
            A plain matplotlib figure: notebooks show it, and W&B (`run.log`, `wandb.Image`), TensorBoard
            (`add_figure`) and `savefig` take it as it is.

        Raises:
            InputError: for images that are not those of the explanation, or arguments that make no sense.
        """
        from agcam.visualization.notebook import plot_heatmaps  # matplotlib, which explaining does not need
        from agcam.visualization.pixels import to_pixels

        if len(images) != len(self.heatmaps):
            raise InputError(f"{len(images)} images for {len(self.heatmaps)} explained ones; give the same batch")
        pixels = to_pixels(images, self.model_info.mean, self.model_info.std)
        units = f"{self.method or 'the method'}'s own units"
        return plot_heatmaps(pixels, *self._most_probable(), titles, scaling, contour, units)

    def _repr_html_(self) -> str:
        from agcam.visualization.notebook import html_table  # as above

        batch, count, height, width = self.heatmaps.shape
        title = f"{self.method or 'Explanation'}: {batch} × {count} heatmaps of {height}×{width} patches"
        return html_table(*self._most_probable(), title)

    def _most_probable(self) -> tuple[np.ndarray, list[list[str]], list[list[float]], str]:
        """Select what is shown: heatmaps (B, n, h, w), names and probabilities (B, n), and a note on the selection."""
        logits, targets = self.logits.detach().float().cpu(), self.targets.cpu()
        count, note = targets.shape[1], ""
        slots = torch.arange(count).expand(len(targets), -1)
        if count > _CLASSES:
            slots = logits.gather(1, targets).topk(_CLASSES, dim=1).indices
            note = f"the {_CLASSES} most probable of {count} explained classes"
        shown = targets.gather(1, slots)
        probabilities = (logits.sigmoid() if self.model_info.multilabel else logits.softmax(1)).gather(1, shown)
        maps = self.heatmaps.detach().float().cpu()[torch.arange(len(targets))[:, None], slots]
        return (
            maps.numpy(),
            [[self.model_info.class_name(t) for t in row] for row in shown.tolist()],
            probabilities.tolist(),
            note,
        )
