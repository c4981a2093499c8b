"""The result of explaining a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor

from agcam.errors import InputError
from agcam.explainers.explanation_file import TENSORS, Description, read_explanation, write_explanation
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
        logits: (B, C) float; the scores where a score was explained; (B, 0) for a model without classifier.
        targets: (B, T) int64, the explained classes, or columns of the scores.
        heatmaps: (B, T, h, w) float32 on the patch grid, in the method's own units.
        method: its name.
        model_info: names of the classes and the like, as far as the model knows them.
        scored: whether a score was explained in place of logits.
        image_size: (H, W) of the explained images; None where unknown.
        extent: height and width in pixels that a heatmap covers, from the upper left one: patches can leave a margin
            of the image, or reach beyond it where the model pads it. None for the whole image.
    """

    logits: Tensor
    targets: Tensor
    heatmaps: Tensor
    method: str = ""
    model_info: ModelInfo = field(default=ModelInfo(), repr=False)
    scored: bool = False
    image_size: tuple[int, int] | None = None
    extent: tuple[int, int] | None = None

    @property
    def placed(self) -> Tensor:
        """The heatmaps as they cover the image, for metrics: `heatmaps` where the patches do, else (B, T, H, W)."""
        if self.image_size is None or self.extent is None:
            return self.heatmaps
        from agcam.metrics.maps import place  # torchmetrics with all that it imports, which explaining does not need

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
        from agcam.metrics.maps import upsample  # as above

        wanted = size or self.image_size
        if wanted is None or len(wanted) != 2 or min(wanted) < 1:
            raise InputError(f"size must be height and width in pixels, such as (224, 224), found {wanted}")
        placed = self.placed
        large = upsample(placed.flatten(0, 1), (int(wanted[0]), int(wanted[1])))
        return large.reshape(*placed.shape[:2], *large.shape[1:])

    def save(self, path: str | Path) -> None:
        """Write the explanation as one safetensors file, which appears only when whole; `load` reads it.

        Data types are kept. The images are not part of it.

        Raises:
            OutputError: if it cannot be written.
        """
        info = self.model_info
        description = Description(
            method=self.method,
            scored=self.scored,
            image_size=list(self.image_size) if self.image_size else None,
            extent=list(self.extent) if self.extent else None,
            class_names=list(info.class_names),
            mean=list(info.mean) if info.mean else None,
            std=list(info.std) if info.std else None,
            multilabel=info.multilabel,
            knows_multilabel=info.knows_multilabel,
        )
        write_explanation(Path(path), {name: getattr(self, name) for name in TENSORS}, description)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Self:
        """Read what `save` wrote, on whatever device it was made, onto `device`.

        Example:
            >>> explanation.save("where.safetensors")
            >>> agcam.Explanation.load("where.safetensors").plot(images)

        Raises:
            DataError: if there is no such file, or it is another one.
            InputError: if the device cannot be used.
        """
        tensors, found = read_explanation(Path(path), device)
        info = ModelInfo(
            class_names=tuple(found.class_names),
            mean=tuple(found.mean) if found.mean else None,
            std=tuple(found.std) if found.std else None,
            multilabel=found.multilabel,
            knows_multilabel=found.knows_multilabel,
        )
        return cls(
            tensors["logits"],
            tensors["targets"],
            tensors["heatmaps"],
            found.method,
            info,
            found.scored,
            _pair(found.image_size),
            _pair(found.extent),
        )

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

        Examples:
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

    def to_fiftyone(self) -> list[list[Any]]:
        """Make a `fiftyone.Heatmap` of each heatmap, with `label`, `confidence` and `method`, for a field of samples.

        The samples' images must be those that were explained, whole: FiftyOne stretches a map over its image.

        Returns:
            (B, T) labels.

        Raises:
            InputError: where FiftyOne, which agcam does not bring, is not installed.
        """
        from agcam.explainers.for_fiftyone import heatmap_labels

        names = [[self._name(target) for target in row] for row in self.targets.tolist()]
        shares: list[list[float]] | list[list[None]] = [[None] * len(row) for row in names]
        if self.logits.shape[1] and not self._are_values:
            shares = self.model_info.probabilities(self.logits.detach().float()).gather(1, self.targets).tolist()
        return heatmap_labels(self.placed.cpu().numpy(), names, shares, self.method)

    def _repr_html_(self) -> str:
        from agcam.visualization.notebook import html_table  # as above

        batch, count, height, width = self.heatmaps.shape
        title = f"{self.method or 'Explanation'}: {batch} × {count} heatmaps of {height}×{width} patches"
        return html_table(*self._most_probable(), title)

    def _most_probable(self, placed: bool = False) -> tuple[np.ndarray, list[list[str]], list[list[str]], str]:
        """Select what is shown: heatmaps (B, n, h, w), names and values (B, n), and a note on the selection."""
        logits, targets = self.logits.detach().float().cpu(), self.targets.cpu()
        maps, count = (self.placed if placed else self.heatmaps).detach().float().cpu(), targets.shape[1]
        if not logits.shape[1]:  # no classifier: there is one map an image, of no class
            return maps.numpy(), [[""]] * len(maps), [[""]] * len(maps), ""
        slots, note = torch.arange(count).expand(len(targets), -1), ""
        if count > _CLASSES:
            slots = logits.gather(1, targets).topk(_CLASSES, dim=1).indices
            kept = ("highest", "values") if self._are_values else ("most probable", "classes")
            note = f"the {_CLASSES} {kept[0]} of {count} explained {kept[1]}"
        shown = targets.gather(1, slots)
        found = maps[torch.arange(len(targets))[:, None], slots]
        return (
            found.numpy(),
            [[self._name(t) for t in row] for row in shown.tolist()],
            self._values(logits, shown),
            note,
        )

    @property
    def _are_values(self) -> bool:
        """Whether what is explained are numbers by themselves, of which no probability can be made."""
        return self.scored or (self.logits.shape[1] == 1 and not self.model_info.multilabel)

    def _values(self, logits: Tensor, shown: Tensor) -> list[list[str]]:
        if self._are_values:
            return [[f"{value:.3g}" for value in row] for row in logits.gather(1, shown).tolist()]
        probabilities = logits.sigmoid() if self.model_info.multilabel else logits.softmax(1)
        return [[f"{share:.0%}" for share in row] for row in probabilities.gather(1, shown).tolist()]

    def _name(self, target: int) -> str:
        if self.scored:
            return "score" if self.logits.shape[1] == 1 else f"score {target}"
        if self.logits.shape[1] == 1 and not self.model_info.class_names:
            return "output"
        return self.model_info.class_name(target)


def _pair(sizes: list[int] | None) -> tuple[int, int] | None:
    return (sizes[0], sizes[1]) if sizes else None
