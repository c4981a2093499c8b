"""`explain`: one call for every method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from agcam.errors import InputError
from agcam.evaluating import evaluating
from agcam.explainers.eager_forward import empty_recording
from agcam.explainers.explanation import Explanation
from agcam.explainers.model_info import read_model_info
from agcam.explainers.patch_grid import covered_pixels
from agcam.explainers.raw_images import warn_of_raw_images
from agcam.explainers.recorder import Recording, record
from agcam.explainers.registry import MethodSpec, find_method

Targets = int | Tensor | Literal["all"] | None


def explain(
    model: nn.Module,
    images: Tensor,
    targets: Targets = None,
    method: str | Callable[..., Any] = "agcam",
    **options: Any,
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
        method: one of `methods()`; "my_package.module:function"; or a function as `register_method` describes it.
        options: of the method, described there. For "agcam" the paper's ablations: `feature_map`, `gradient`,
            `layers`, `heads`, `head_reduction` and `layer_reduction`; for "raw_attention" `layers` and `heads`; for
            "rollout" `head_fusion`, `discard_ratio` and `normalization`; for "gradcam" `block`; for "legrad"
            `readout`; for Captum's `reduction` and `steps`.

    Returns:
        logits, targets and heatmaps of the batch.

    Raises:
        InputError: for images, targets, a method or options that make no sense; the message names the value.
        ModelError: for a model that cannot be explained, with the reason.
    """
    spec = find_method(method, options)
    check_image_batch(images)
    warn_of_raw_images(images, read_model_info(model), stacklevel=3)
    with evaluating(model):
        recording = (empty_recording if spec.needs == "forward" else record)(model, images)
        return _explain(recording, targets, spec, options, model)


def explain_recording(
    recording: Recording, targets: Targets = None, method: str | Callable[..., Any] = "agcam", **options: Any
) -> Explanation:
    """Explain a forward that a `Tape` has recorded; arguments and result as in `explain`."""
    return _explain(recording, targets, find_method(method, options), options, recording.parts.backbone)


def _explain(
    recording: Recording, targets: Targets, spec: MethodSpec, options: dict[str, Any], model: nn.Module
) -> Explanation:
    # tensors made in inference mode can enter no autograd graph, neither ours nor the caller's
    with torch.inference_mode(False):
        # a method that runs the model itself makes the logits, on which the targets may depend
        of_targets = spec.function(recording, **options) if spec.needs == "forward" else None
        chosen = resolve_targets(targets, recording.logits).clone()
        heatmaps = of_targets(chosen) if of_targets else spec.function(recording, chosen, **options)
        if not isinstance(heatmaps, Tensor) or heatmaps.dim() != 4 or heatmaps.shape[:2] != chosen.shape:
            found = tuple(heatmaps.shape) if isinstance(heatmaps, Tensor) else type(heatmaps).__name__
            batch, count = chosen.shape
            raise InputError(f"method {spec.name} must give heatmaps ({batch}, {count}, h, w), found {found}")
        maps = heatmaps.detach().float()
        height, width = recording.images.shape[-2:]
        extent = covered_pixels(recording, (int(maps.shape[-2]), int(maps.shape[-1])))
        info, size = read_model_info(model), (int(height), int(width))
        return Explanation(recording.logits.clone(), chosen, maps, spec.name, info, size, extent)


def check_image_batch(images: Tensor) -> None:
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
    """Turn `targets` into (B, T) int64 class indices on the device of `logits` (B, C)."""
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
