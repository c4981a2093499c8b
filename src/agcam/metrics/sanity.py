"""Sanity check by parameter randomization (Adebayo et al. 2018, arXiv 1810.03292): does the map depend on training?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.functional.regression import spearman_corrcoef

from agcam.errors import InputError, ModelError
from agcam.metrics.checks import check_heatmaps
from agcam.metrics.inputs import MetricInputs
from agcam.metrics.maps import min_max, upsample
from agcam.metrics.means import RowMeans
from agcam.metrics.registry import register_metric
from agcam.metrics.spec import MetricSpec, Value, parts

Mode = Literal["cascading", "independent"]
Explain = Callable[[nn.Module, Tensor], Tensor]
"""A function from (model, images (B, 3, H, W)) to heatmaps (B, h, w), for classes chosen beforehand."""

_SSIM_WINDOW = 11
_STD = 0.02


class Similarity(NamedTuple):
    """How similar two heatmaps of each image are.

    Attributes:
        spearman: (…, B) float32 in [-1, 1], rank correlation.
        ssim: (…, B) float32 in [-1, 1], structural similarity.
    """

    spearman: Tensor
    ssim: Tensor


def vit_parts(model: nn.Module) -> list[tuple[str, list[tuple[str, nn.Parameter]]]]:
    """Return the parameters of a timm ViT by part, from the head down.

    The parts are `head`, `norm` (before it), `blocks.11` … `blocks.0`, and `patch_embed` with everything that enters
    the first block (tokens, position embedding). A part without parameters is left out.

    Args:
        model: a timm ViT, or a module that holds one.

    Raises:
        ModelError: if no module in the model has transformer blocks.
    """
    holders = [module for module in model.modules() if isinstance(_blocks(module), nn.Sequential | nn.ModuleList)]
    if not holders:
        raise ModelError(f"found no transformer blocks in {type(model).__name__}; parameter randomization needs a ViT")
    backbone = holders[0]
    depth = len(list(_blocks(backbone).children()))
    names = ["head", "norm", *(f"blocks.{index}" for index in reversed(range(depth))), "patch_embed"]
    parts: dict[str, list[tuple[str, nn.Parameter]]] = {name: [] for name in names}
    for name, parameter in backbone.named_parameters():
        parts[_part_of(name)].append((name, parameter))
    return [(name, parameters) for name, parameters in parts.items() if parameters]


def _blocks(module: nn.Module) -> Any:
    return getattr(module, "blocks", None)


def _part_of(name: str) -> str:
    top, *rest = name.split(".")
    if top == "blocks":
        return f"blocks.{rest[0]}"
    if top in ("norm", "fc_norm"):
        return "norm"
    return "head" if top.startswith(("head", "attn_pool")) else "patch_embed"


def randomized(model: nn.Module, mode: Mode = "cascading", seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Yield copies of a ViT with its parts reinitialized one after the other, from the head to the patch embedding.

    Matrices, tokens and embeddings are drawn as timm does (normal, standard deviation 0.02), biases become 0, scales
    of norms and of layer scale 1. A part's numbers depend on the seed and the part only, not on the mode or device.

    Args:
        model: see `vit_parts`; it is copied, never changed.
        mode: `"cascading"`: each part and all above it; `"independent"`: each part alone.
        seed: of the new numbers.

    Yields:
        The name of the last part reinitialized, and the model. Each step changes the same copy: use it before asking
        for the next.
    """
    if mode not in ("cascading", "independent"):
        raise InputError(f"mode must be 'cascading' or 'independent', found {mode!r}")
    changed = copy.deepcopy(model).eval()
    for index, (name, parameters) in enumerate(vit_parts(changed)):
        trained = [parameter.detach().clone() for _, parameter in parameters]
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
        with torch.no_grad():
            for key, parameter in parameters:
                parameter.copy_(_fresh(key, parameter, generator))
        yield name, changed
        if mode == "independent":
            with torch.no_grad():
                for (_, parameter), old in zip(parameters, trained, strict=True):
                    parameter.copy_(old)


def _fresh(name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    if parameter.dim() >= 2:
        return _STD * torch.randn(parameter.shape, generator=generator)
    own = name.rsplit(".", 1)[-1]
    return torch.full(parameter.shape, float(own == "weight" or own.startswith("gamma")))


def similarity(before: Tensor, after: Tensor, image_size: tuple[int, int]) -> Similarity:
    """Measure how similar the heatmaps of each image are before and after.

    Rank correlation is computed on the patch grid, structural similarity on the maps as they are shown: upsampled to
    the image and scaled to [0, 1]. A constant map correlates with nothing: 0.

    Args:
        before: (B, h, w), any units.
        after: (B, h, w), any units.
        image_size: (H, W), 11 pixels or more a side (the window of the structural similarity).

    Raises:
        InputError: if shapes differ, a heatmap is not finite, or the image is too small.
    """
    check_heatmaps(before)
    check_heatmaps(after)
    if before.shape != after.shape:
        raise InputError(f"heatmaps before and after must have one shape, found {before.shape} and {after.shape}")
    if min(image_size) < _SSIM_WINDOW:
        raise InputError(f"image_size must be at least {_SSIM_WINDOW} pixels a side for SSIM, found {image_size}")
    pair = [heatmaps.detach().float() for heatmaps in (before, after)]
    flat = [heatmaps.flatten(1) for heatmaps in pair]
    varied = torch.stack([rows.amax(1) > rows.amin(1) for rows in flat]).all(0)
    ranked = spearman_corrcoef(flat[0].T.squeeze(1), flat[1].T.squeeze(1)).reshape(-1)
    scaled = [min_max(upsample(heatmaps, image_size))[:, None] for heatmaps in pair]
    ssim = structural_similarity_index_measure(scaled[0], scaled[1], data_range=1.0, reduction="none")
    assert isinstance(ssim, Tensor)  # a pair only where the full image is asked for
    return Similarity(torch.where(varied, ranked, 0.0), ssim.reshape(-1))


def parameter_randomization(
    model: nn.Module, images: Tensor, explain: Explain, mode: Mode = "cascading", seed: int = 0
) -> Similarity:
    """Compare each image's heatmap with that of the model with parts randomized; low similarity is sane.

    Args:
        model: see `vit_parts`; left as found.
        images: (B, 3, H, W), normalized.
        explain: gives heatmaps (B, h, w) for a model and images. Choose the classes beforehand: the randomized
            model would predict others.
        mode: see `randomized`.
        seed: see `randomized`.

    Returns:
        (S, B) each, S parts in the order of `vit_parts`.

    Raises:
        InputError: as `similarity`.
        ModelError: if the model is not a ViT.
    """
    size = (int(images.shape[2]), int(images.shape[3]))
    before = explain(copy.deepcopy(model).eval(), images)
    found = [similarity(before, explain(changed, images), size) for _, changed in randomized(model, mode, seed)]
    return Similarity(torch.stack([one.spearman for one in found]), torch.stack([one.ssim for one in found]))


class ParameterRandomization(RowMeans):
    """Mean similarity, in [-1, 1], of heatmaps before and after parts of the model are randomized; low is sane.

    A method whose maps survive randomization explains the image, not the model. Adebayo et al. 2018. Per-image
    values: `parameter_randomization`. Only sums over images are kept.

    Args:
        model: see `vit_parts`; left as found, neither moved nor saved with the metric.
        explain: see `parameter_randomization`.
        mode: see `randomized`.
        seed: see `randomized`.

    Attributes:
        parts: names of the S parts, from the head down.

    Examples:
        >>> metric = ParameterRandomization(model, lambda m, x: agcam.explain(m, x, targets=3).placed[:, 0])
        >>> metric.update(images)
        >>> dict(zip(metric.parts, metric.compute()["spearman"]))
    """

    def __init__(
        self, model: nn.Module, explain: Explain, mode: Mode = "cascading", seed: int = 0, **kwargs: Any
    ) -> None:
        if mode not in ("cascading", "independent"):
            raise InputError(f"mode must be 'cascading' or 'independent', found {mode!r}")
        names = [name for name, _ in vit_parts(model)]
        super().__init__(2 * len(names), **kwargs)
        self.parts = names
        # in a tuple, so that torch does not register the model as a submodule
        self._held = (model, explain)
        self.mode: Mode = mode
        self.seed = seed

    def update(self, images: Tensor) -> None:
        """Explain images (B, 3, H, W), normalized, with the model and with each part randomized, and compare."""
        if not len(images):
            return
        model, explain = self._held
        self.add(torch.cat(parameter_randomization(model, images, explain, self.mode, self.seed)).T)

    def compute(self) -> dict[str, Tensor]:
        """Return `spearman` and `ssim` (S,), in the order of `parts` (NaN where no image was scored), and `count`."""
        spearman, ssim = self.mean().float().to(self.device).chunk(2)
        return {"spearman": spearman, "ssim": ssim, "count": self.count}


_MODES: tuple[Mode, ...] = ("cascading", "independent")
_WORDS = (
    (
        "cascading_spearman",
        "Similarity after scrambling, ranks",
        "How much the heatmap resembles that of a model whose layers were scrambled one after the other, from the "
        "last one on. A heatmap that explains this model should change: low is good.",
    ),
    (
        "cascading_ssim",
        "Similarity after scrambling, structure",
        "The same, comparing the look of the maps. Low is good.",
    ),
    (
        "independent_spearman",
        "Similarity after scrambling one layer, ranks",
        "The same with one layer at a time. Low is good.",
    ),
    (
        "independent_ssim",
        "Similarity after scrambling one layer, structure",
        "The same, comparing the look. Low is good.",
    ),
)


def _rows(inputs: MetricInputs) -> Tensor:
    """Return similarities (P, 4 S): rank correlation and structure, in both modes, for each of S parts."""
    explain = inputs.explain
    if explain is None:
        raise InputError("sanity explains other models: expected inputs with `explain`, found None")
    found = [
        pair
        for mode in _MODES
        for pair in parameter_randomization(
            inputs.model, inputs.images, lambda model, images: explain(model, images, inputs.targets), mode
        )
    ]
    return torch.cat(found).T


def _part_mean(number: int, rows: Tensor) -> Tensor:
    return parts(len(_WORDS), rows)[..., number, :].mean(-1)


register_metric(
    MetricSpec(
        "sanity",
        _rows,
        tuple(
            Value(
                f"sanity/{name}",
                partial(_part_mean, k),
                label,
                meaning,
                higher_is_better=False,
                minor=k > 0,
            )
            for k, (name, label, meaning) in enumerate(_WORDS)
        ),
        group="Sanity: similarity to the maps of a randomized model",
        help="similarity to the maps of a model whose parts are randomized",
        slow=True,
        order=130,
    )
)
