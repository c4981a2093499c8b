"""A loss on where a model looks: how much of AG-CAM's heatmap lies outside the object, differentiable."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from agcam.errors import InputError, ModelError
from agcam.explainers.differentiable import working_dtype
from agcam.explainers.explain import resolve_targets
from agcam.explainers.methods.agcam import agcam
from agcam.explainers.patch_grid import covered_pixels
from agcam.explainers.recording import Recording
from agcam.explainers.self_check import check_classes, explaining_gradients


def guidance_loss(recording: Recording, targets: Tensor, regions: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Compute for each image the share of AG-CAM's heatmap that lies outside the object: 0 if all of it lies inside.

    With the heatmap L of a target and the share r of each patch that its object covers,

        loss = 1 − Σ r ⊙ L / Σ L,

    the energy loss of Rao et al., "Studying How to Efficiently and Effectively Guide Models with Explanations" (ICCV
    2023, arXiv 2303.11932). The scale of the heatmap makes no difference to it.

    Its gradient is exact: that of the heatmap as a function of all parameters. It passes through all that the heatmap
    is made of, L = Σ sigmoid(S) ⊙ ReLU(g · V): through the scores S and the values V of each attention call into the
    forward that was recorded, and through the gradient g = ∂y / ∂o, which is differentiated once more, into the
    parameters of the replay, the attention's outputs o and the tokens that it ran on. What AG-CAM holds constant, the
    input of each attention module, is constant in g alone, as its definition says. Nothing is added to any `.grad`
    before `backward`, and a parameter that the heatmap does not depend on, such as the head's bias, gets none.

    The forward may run in training mode, with drop path, and under autocast; the replay computes in float32. Dropout of
    single numbers cannot be drawn again for the tokens that the head reads alone and is refused.

    Examples:
        >>> with agcam.Tape(model, graph=True) as tape:
        ...     logits = model(images)
        >>> guidance = agcam.guidance_loss(tape.recording, labels, masks)  # masks (B, H, W), true on the object
        >>> (torch.nn.functional.cross_entropy(logits, labels) + guidance.mean()).backward()

    Args:
        recording: of a `Tape(model, graph=True)`.
        targets: (B,) or (B, T) int64, the classes whose heatmaps are guided.
        regions: (B, T, H, W), or (B, H, W) for one target an image, bool, in pixels of the images: true on the object
            of the target. Targets without an object are left out.
        ignored: in the same shape, true on pixels whose heat does not count, inside or outside.

    Returns:
        (B,) in [0, 1], float32 or float64: the mean over the targets of an image that have an object, 0 without one.
        Also 0 for a heatmap that is 0 everywhere.

    Raises:
        InputError: for targets or regions of another shape.
        ModelError: for a recording without a graph, or a model whose forward the replay does not reproduce.
    """
    check_classes(recording, "guidance_loss")
    if not recording.has_graph:
        raise ModelError(
            f"{recording.parts.name}: the recording has no autograd graph; make it by Tape(model, graph=True)"
        )
    chosen = resolve_targets(targets, recording.logits)
    objects = _checked(recording, regions, chosen, "regions")
    others = ~objects
    if ignored is not None:
        counted = ~_checked(recording, ignored, chosen, "ignored")
        objects, others = objects & counted, others & counted
    guided = objects.flatten(2).any(2)
    if not bool(guided.any()):
        return recording.logits.new_zeros(len(chosen), dtype=working_dtype(recording.tokens))
    with explaining_gradients(recording):
        heatmaps = agcam(recording, chosen)
    inside, outside = ((heatmaps * _shares(recording, pixels).to(heatmaps)).sum((2, 3)) for pixels in (objects, others))
    total = inside + outside
    losses = outside / torch.where(total > 0, total, 1)
    return (losses * guided).sum(1) / guided.sum(1).clamp_min(1)


def _checked(recording: Recording, pixels: Tensor, targets: Tensor, name: str) -> Tensor:
    """Return `pixels` as (B, T, H, W).

    Raises:
        InputError: if they have another type or shape.
    """
    batch, count = targets.shape
    expected = (batch, count, *recording.images.shape[-2:])
    if pixels.dim() == 3 and count == 1:
        pixels = pixels.unsqueeze(1)
    if pixels.dtype != torch.bool or tuple(pixels.shape) != expected:
        raise InputError(
            f"{name} must be bool {expected}, as the images and targets are, found {pixels.dtype} {tuple(pixels.shape)}"
        )
    return pixels


def _shares(recording: Recording, pixels: Tensor) -> Tensor:
    """Return the share (B, T, h, w) of each patch that pixels (B, T, H, W) bool cover."""
    height, width = covered_pixels(recording, recording.grid)
    # what the model pads its images with belongs neither to an object nor to what is outside
    rest = (0, max(0, width - pixels.shape[3]), 0, max(0, height - pixels.shape[2]))
    return F.adaptive_avg_pool2d(F.pad(pixels[:, :, :height, :width].float(), rest), recording.grid)
