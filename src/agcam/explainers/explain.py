"""`explain`: one call for every method."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from agcam.errors import InputError
from agcam.explainers import controls
from agcam.explainers.agcam import agcam
from agcam.explainers.attention import raw_attention, rollout
from agcam.explainers.captum_methods import input_x_gradient, integrated_gradients
from agcam.explainers.eager_forward import evaluating as evaluating
from agcam.explainers.eager_forward import unrecorded
from agcam.explainers.generic_attention import generic_attention
from agcam.explainers.gradcam import attention_gradcam, gradcam
from agcam.explainers.legrad import legrad
from agcam.explainers.lrp import lrp
from agcam.explainers.model_info import Facts, facts_of
from agcam.explainers.recorder import Recording, record

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from PIL import Image

Targets = int | Tensor | Literal["all"] | None

# called with a recorded forward and targets (B, T), they give heatmaps (B, T, h, w)
_FROM_TAPE: dict[str, Callable[..., Tensor]] = {
    "agcam": agcam,
    "raw_attention": raw_attention,
    "attention_gradcam": attention_gradcam,
    "random": controls.random,
    "center": controls.center,
}
# These run the model themselves on the recording's images, so that nothing need be recorded for them. The targets may
# depend on the logits: they give a function from targets (B, T) to heatmaps (B, T, h, w).
_OWN_FORWARD: dict[str, Callable[..., Callable[[Tensor], Tensor]]] = {
    "rollout": rollout,
    "lrp": lrp,
    "generic_attention": generic_attention,
    "gradcam": gradcam,
    "legrad": legrad,
    "input_x_gradient": input_x_gradient,
    "integrated_gradients": integrated_gradients,
}
_METHODS: dict[str, Callable[..., Any]] = _FROM_TAPE | _OWN_FORWARD


@dataclass(frozen=True)
class Explanation:
    """Where the model looked. Notebooks show the heatmaps; `plot(images)` lays them over the images.

    Attributes:
        logits: (B, C) float.
        targets: (B, T) int64, the explained classes.
        heatmaps: (B, T, h, w) float32 on the patch grid, in the method's own units.
        method: its name.
        facts: names of the classes and the like, as far as the model knows them.
    """

    logits: Tensor
    targets: Tensor
    heatmaps: Tensor
    method: str = ""
    facts: Facts = field(default=Facts(), repr=False)

    def plot(
        self,
        images: Tensor | Sequence[np.ndarray | Image.Image],
        titles: Sequence[str] = (),
        scaling: Literal["own", "common"] = "own",
        contour: float | None = None,
    ) -> Figure:
        """A figure of the heatmaps over their images: images down, classes across, a colour bar beneath.

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
            A matplotlib figure that notebooks show.

        Raises:
            InputError: for images that are not those of the explanation, or arguments that make no sense.
        """
        from agcam.visualization.notebook import figure_of

        return figure_of(self, images, titles, scaling, contour)

    def _repr_html_(self) -> str:
        from agcam.visualization.notebook import html_of

        return html_of(self)


def methods() -> list[str]:
    """The names that `explain(method=…)` takes."""
    return list(_METHODS)


def explain(
    model: nn.Module, images: Tensor, targets: Targets = None, method: str = "agcam", **options: Any
) -> Explanation:
    """Explain a ViT's logits by heatmaps. The model is left as it was found: mode, gradients, hooks, RNG.

    Example:
        >>> model = timm.create_model("vit_small_patch16_224", pretrained=True)
        >>> explanation = agcam.explain(model, images)  # images (B, 3, 224, 224), normalised
        >>> explanation.heatmaps.shape  # (B, 1, 14, 14): one map of the predicted class each

    Args:
        model: a timm ViT or a `ViTClassifier`, wrapped by DDP or `torch.compile` or not.
        images: (B, 3, H, W), normalised as the model expects, on the model's device.
        targets: the classes to explain: `None` (the predicted class), an int, (B,), (B, T), or `"all"`.
        method: one of `methods()`.
        options: of the method, described there. For "agcam" the paper's ablations: `feature_map`, `gradient`,
            `layers`, `head_reduction` and `layer_reduction`; for "rollout" `head_fusion`, `discard_ratio` and
            `normalization`; for "gradcam" `block`; for "legrad" `readout`; for Captum's `reduction` and `steps`.

    Returns:
        logits, targets and heatmaps of the batch.

    Raises:
        InputError: for images, targets, a method or options that make no sense; the message names the value.
        ModelError: for a model that cannot be explained, with the reason.
    """
    check_method(method, options)
    check_images(images)
    with evaluating(model):
        recording = (unrecorded if method in _OWN_FORWARD else record)(model, images)
        explanation = explain_recording(recording, targets, method, **options)
    return replace(explanation, facts=facts_of(model))


def explain_recording(
    recording: Recording, targets: Targets = None, method: str = "agcam", **options: Any
) -> Explanation:
    """Explain a forward that a `Tape` has recorded; arguments and result as in `explain`."""
    check_method(method, options)
    # tensors made in inference mode can enter no autograd graph, neither ours nor the caller's
    with torch.inference_mode(False):
        if method in _OWN_FORWARD:
            heatmaps_of = _OWN_FORWARD[method](recording, **options)
        else:
            heatmaps_of = partial(_FROM_TAPE[method], recording, **options)
        chosen = resolve_targets(targets, recording.logits).clone()
        heatmaps = heatmaps_of(chosen)
        return Explanation(recording.logits.clone(), chosen, heatmaps, method, facts_of(recording.anatomy.backbone))


def check_method(method: str, options: Collection[str] = ()) -> None:
    """Raise `InputError` unless `method` is one of `methods()` and takes options of these names."""
    if method not in _METHODS:
        raise InputError(f"unknown method {method!r}; known are {', '.join(_METHODS)}")
    if options:
        parameters = inspect.signature(_METHODS[method]).parameters.values()
        known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
        for name in options:
            if name not in known:
                raise InputError(f"{method} has no option {name!r}; known are {', '.join(known) or 'none'}")


def check_images(images: Tensor) -> None:
    """Raise `InputError` unless `images` is a finite float batch (B, 3, H, W) with B > 0."""
    if not isinstance(images, Tensor) or images.dim() != 4:
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images must be a tensor (B, 3, H, W), found {found}")
    if not images.is_floating_point():
        raise InputError(f"images must be normalised floats, found {images.dtype}; divide by 255, then mean and std")
    if not len(images):
        raise InputError("images is an empty batch; explain needs at least one image")
    if bool(torch.isfinite(images.sum())):  # a third of the time that looking at each pixel takes
        return
    finite = torch.isfinite(images).flatten(1).all(1)
    if not bool(finite.all()):
        bad = torch.nonzero(~finite).flatten().tolist()
        raise InputError(f"images {bad} of the batch hold NaN or infinity; look at how they were read and normalised")


def resolve_targets(targets: Targets, logits: Tensor) -> Tensor:
    """`targets` as (B, T) int64 class indices on the device of `logits` (B, C)."""
    batch, classes = logits.shape
    if targets is None:
        return logits.argmax(1, keepdim=True)
    if isinstance(targets, str):
        if targets != "all":
            raise InputError(f"targets must be None, an int, a tensor or 'all', found {targets!r}")
        return torch.arange(classes, device=logits.device).expand(batch, -1)
    chosen = torch.as_tensor(targets, device=logits.device)
    if chosen.dtype.is_floating_point or chosen.dtype in (torch.bool, torch.complex64, torch.complex128):
        raise InputError(f"targets must be class indices (int64), found {chosen.dtype}")
    chosen = chosen.long()
    if chosen.dim() == 0:
        chosen = chosen.expand(batch)
    if chosen.dim() == 1:
        chosen = chosen.unsqueeze(1)
    if chosen.dim() != 2 or len(chosen) != batch or not chosen.shape[1]:
        raise InputError(
            f"targets must be (B,) or (B, T) with B = {batch}, found {tuple(torch.as_tensor(targets).shape)}"
        )
    outside = chosen[(chosen < 0) | (chosen >= classes)]
    if len(outside):
        raise InputError(f"target {int(outside[0])} is out of range: the model has classes 0 … {classes - 1}")
    return chosen
