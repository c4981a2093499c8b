"""The result of explaining a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from agcam.errors import InputError
from agcam.explainers.model_info import ModelInfo
from agcam.metrics.maps import place, upsample

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
        image_size: (H, W) of the explained images; None where unknown.
        extent: height and width in pixels that a heatmap covers, from the upper left one: patches can leave a margin
            of the image, or reach beyond it where the model pads it. None for the whole image.
    """

    logits: Tensor
    targets: Tensor
    heatmaps: Tensor
    method: str = ""
    model_info: ModelInfo = field(default=ModelInfo(), repr=False)
    image_size: tuple[int, int] | None = None
    extent: tuple[int, int] | None = None

    @property
    def placed(self) -> Tensor:
        """The heatmaps as they cover the image, for metrics: `heatmaps` where the patches do, else (B, T, H, W)."""
        if self.image_size is None or self.extent is None:
            return self.heatmaps
        return place(self.heatmaps, self.image_size, self.extent)

    def upsample(self, size: tuple[int, int] | None = None) -> Tensor:
        """Enlarge the heatmaps to pixels, bilinear, each patch on its own pixels.

        Example:
            >>> agcam.explain(model, images).upsample()  # (B, 1, 224, 224)

        Args:
            size: (H, W); that of the explained images if left out.

        Returns:
            (B, T, H, W) float32, in the method's own units.

        Raises:
            InputError: for a size that is none, or none where that of the images is unknown.
        """
        wanted = size or self.image_size
        if wanted is None or len(wanted) != 2 or min(wanted) < 1:
            raise InputError(f"size must be height and width in pixels, such as (224, 224), found {wanted}")
        placed = self.placed
        large = upsample(placed.flatten(0, 1), (int(wanted[0]), int(wanted[1])))
        return large.reshape(*placed.shape[:2], *large.shape[1:])

    def plot(
        self,
        images: Tensor | Sequence[np.ndarray | Image.Image],
        titles: Sequence[str] = (),
        scaling: Literal["own", "common"] = "own",
        contour: float | None = None,
        channels: Sequence[int] | None = None,
    ) -> Figure:
        """Draw the heatmaps over their images: images down, classes across, a colour bar beneath.

        The images are not kept with the explanation, which would hold a thousand times its memory. Of more than 8
        explained classes the most probable ones are drawn.

        Example:
            >>> agcam.explain(model, images).plot(images).savefig("where.pdf")  # or .svg, .png

        Args:
            images: the tensor (B, C, H, W) that was explained; or what it was made of, at its own resolution: B
                pictures, each a (H, W, 3) uint8 array or a PIL image.
            titles: names of the images, left of them.
            scaling: "own" scales each map to its own extremes, which shows where; "common" gives all maps one scale in
                the method's units, which shows how much, too.
            contour: a line around what is hotter than this share of the scale, such as 0.5.
            channels: of a tensor, the one channel to show as grey, or the three to show as red, green and blue; the
                first three if left out, or the first of one or two.

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
        pixels = to_pixels(images, self.model_info.mean, self.model_info.std, channels)
        units = f"{self.method or 'the method'}'s own units"
        return plot_heatmaps(pixels, *self._most_probable(placed=True), titles, scaling, contour, units)

    def _repr_html_(self) -> str:
        from agcam.visualization.notebook import html_table  # as above

        batch, count, height, width = self.heatmaps.shape
        title = f"{self.method or 'Explanation'}: {batch} × {count} heatmaps of {height}×{width} patches"
        return html_table(*self._most_probable(), title)

    def _most_probable(self, placed: bool = False) -> tuple[np.ndarray, list[list[str]], list[list[float]], str]:
        """Select what is shown: heatmaps (B, n, h, w), names and probabilities (B, n), and a note on the selection."""
        logits, targets = self.logits.detach().float().cpu(), self.targets.cpu()
        count, note = targets.shape[1], ""
        slots = torch.arange(count).expand(len(targets), -1)
        if count > _CLASSES:
            slots = logits.gather(1, targets).topk(_CLASSES, dim=1).indices
            note = f"the {_CLASSES} most probable of {count} explained classes"
        shown = targets.gather(1, slots)
        probabilities = (logits.sigmoid() if self.model_info.multilabel else logits.softmax(1)).gather(1, shown)
        heatmaps = self.placed if placed else self.heatmaps
        maps = heatmaps.detach().float().cpu()[torch.arange(len(targets))[:, None], slots]
        return (
            maps.numpy(),
            [[self.model_info.class_name(t) for t in row] for row in shown.tolist()],
            probabilities.tolist(),
            note,
        )
