"""`explain`: one call for every method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from agcam.errors import InputError, brief
from agcam.evaluating import evaluating
from agcam.explainers.class_token import read_rows
from agcam.explainers.eager_forward import empty_recording
from agcam.explainers.explanation import Explanation
from agcam.explainers.lean_forward import record_lean
from agcam.explainers.model_info import read_model_info
from agcam.explainers.outputs import OutputReader, Score
from agcam.explainers.patch_dictionary import images_of_patches
from agcam.explainers.patch_grid import covered_pixels, warn_of_another_size
from agcam.explainers.raw_images import warn_of_raw_images
from agcam.explainers.recording import Recording
from agcam.explainers.registry import MethodSpec, find_method
from agcam.explainers.self_check import check_output, explaining_gradients, no_classifier

Targets = int | Tensor | Sequence[Any] | Literal["all"] | None
NameOrFunction = str | Callable[..., Any]


@overload
def explain(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    targets: Targets = None,
    method: NameOrFunction = "agcam",
    *,
    methods: None = None,
    output: str | int | None = None,
    score: Score | None = None,
    vit: str | None = None,
    **options: Any,
) -> Explanation: ...
@overload
def explain(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    targets: Targets = None,
    *,
    methods: Sequence[NameOrFunction],
    output: str | int | None = None,
    score: Score | None = None,
    vit: str | None = None,
) -> dict[str, Explanation]: ...
def explain(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    targets: Targets = None,
    method: NameOrFunction | None = None,
    *,
    methods: Sequence[NameOrFunction] | None = None,
    output: str | int | None = None,
    score: Score | None = None,
    vit: str | None = None,
    **options: Any,
) -> Explanation | dict[str, Explanation]:
    """Explain what a model with a ViT in it computes, by heatmaps. The model is left as it was found.

    The whole model is explained: what it does to the images before its ViT, and its own heads after it. Threads may
    explain with one model at the same time, and predict with it if it is in evaluation mode.

    Examples:
        >>> model = timm.create_model("vit_tiny_patch16_224").eval()  # pretrained=True loads timm's weights
        >>> explanation = agcam.explain(model, images)  # images (4, 3, 224, 224), normalised
        >>> explanation.heatmaps.shape  # a map of the predicted class for each image
        torch.Size([4, 1, 14, 14])
        >>> both = agcam.explain(model, images, methods=["agcam", "raw_attention"])  # of one forward pass
        >>> why = agcam.explain(model, images, score=lambda logits: logits[:, 3] - logits[:, 7])  # why 3 rather than 7

    Args:
        model: a ViT of one of `families()`, or any module that contains one and is called with images alone. Of what
            models of transformers return the logits are explained, where there are any.
        images: (B, 3, H, W), as the model expects them, on its device; for a NaFlex model of timm also the dictionary
            of patches that it takes, of images with one patch grid.
        targets: the classes to explain: `None` (the predicted class), an int, (B,), (B, T), or `"all"`.
        method: one of `methods()`, "agcam" if left out; "my_package.module:function"; or a function as
            `register_method` describes it.
        methods: several methods instead of one, without options: those that work from a recording share one forward.
        output: the key or number of what is explained, where the model returns several tensors.
        score: a differentiable function of the output, to (B,) or (B, T), that is explained in place of its logits;
            `similarity` makes one. The targets are then its columns, `None` all of them.
        vit: the name of the ViT among the model's modules, such as "encoder.trunk", where there are several.
        options: of the method, described there. For "agcam" the paper's ablations: `feature_map`, `gradient`,
            `layers`, `heads`, `head_reduction` and `layer_reduction`; for "raw_attention" `layers` and `heads`; for
            "rollout" `head_fusion`, `discard_ratio` and `normalization`; for "gradcam" `block`; for "legrad"
            `readout`; for Captum's `reduction` and `steps`.

    Returns:
        logits (or scores), targets and heatmaps of the batch; with `methods` a dictionary of them by method.

    Raises:
        InputError: for images, targets, a method or options that make no sense; the message names the value.
        ModelError: for a model that cannot be explained, with the reason.
    """
    chosen = _several(methods, method, options) if methods is not None else [find_method(method or "agcam", options)]
    found = _explain_by(model, images, targets, chosen, options, OutputReader(output, score), vit)
    return found[0] if methods is None else {spec.name: each for spec, each in zip(chosen, found, strict=True)}


def _several(
    methods: Sequence[NameOrFunction], method: NameOrFunction | None, options: dict[str, Any]
) -> list[MethodSpec]:
    if isinstance(methods, str) or not methods:
        raise InputError(f"methods must be a list of methods, such as ['agcam', 'rollout'], found {methods!r}")
    if method is not None or options:
        others = ", ".join([*([f"method={method!r}"] if method is not None else []), *options])
        raise InputError(
            f"methods={list(methods)!r} goes with no {others}; explain by that method in a call of its own"
        )
    return list({spec.name: spec for spec in map(find_method, methods)}.values())


def _explain_by(
    model: nn.Module,
    images: Tensor | Mapping[str, Any],
    targets: Targets,
    methods: Sequence[MethodSpec],
    options: dict[str, Any],
    reader: OutputReader,
    vit: str | None,
) -> list[Explanation]:
    given, images = images, images_of_patches(images) if isinstance(images, Mapping) else images
    check_image_batch(images)
    recorded = any(spec.needs == "recording" for spec in methods)
    explanations: list[Explanation] = []
    with evaluating(model):
        recording = (record_lean if recorded else empty_recording)(model, images, reader, vit)
        for spec in methods:
            if explanations and not recorded:
                recording = empty_recording(model, images, reader, vit)
            explanations.append(_explain(recording, targets, spec, options))
        if given is not images:
            with torch.no_grad():
                returned = model(given)
            check_output(recording, *recording.interpret(returned))
    warn_of_raw_images(images, explanations[0].model_info, stacklevel=4)
    warn_of_another_size(recording, stacklevel=4)
    return explanations


def explain_recording(
    recording: Recording, targets: Targets = None, method: str | Callable[..., Any] = "agcam", **options: Any
) -> Explanation:
    """Explain a forward that a `Tape` has recorded; arguments and result as in `explain`."""
    return _explain(recording, targets, find_method(method, options), options)


def _explain(recording: Recording, targets: Targets, spec: MethodSpec, options: dict[str, Any]) -> Explanation:
    # tensors made in inference mode can enter no autograd graph, neither ours nor the caller's
    with torch.inference_mode(False), explaining_gradients(recording):
        if spec.needs == "forward":
            # a method that runs the model itself makes the logits, on which the targets may depend
            of_targets = spec.function(recording, **options)
            chosen = _chosen(targets, recording, spec)
            heatmaps = of_targets(chosen)
        else:
            chosen = _chosen(targets, recording, spec)
            checked = recording if spec.control else read_rows(recording)
            heatmaps = spec.function(checked, chosen, **options)
        if not isinstance(heatmaps, Tensor) or heatmaps.dim() != 4 or heatmaps.shape[:2] != chosen.shape:
            found = tuple(heatmaps.shape) if isinstance(heatmaps, Tensor) else type(heatmaps).__name__
            batch, count = chosen.shape
            raise InputError(f"method {spec.name} must give heatmaps ({batch}, {count}, h, w), found {found}")
        maps = heatmaps.detach().float()
        scored = recording.reader.score is not None
        info = read_model_info(recording.model, recording.parts.backbone, recording.direct_images)
        height, width = recording.images.shape[-2:]
        extent = covered_pixels(recording, (int(maps.shape[-2]), int(maps.shape[-1])))
        size = (int(height), int(width))
        return Explanation(recording.logits.clone(), chosen, maps, spec.name, info, scored, size, extent)


def _chosen(targets: Targets, recording: Recording, spec: MethodSpec) -> Tensor:
    if recording.has_classes:
        scored = recording.reader.score is not None
        return resolve_targets("all" if targets is None and scored else targets, recording.logits).clone()
    if spec.class_specific:
        raise no_classifier(recording, spec.name)
    if targets is not None:
        raise InputError(
            f"{recording.parts.name} has no classifier, so that there is no target {targets!r}; leave it out"
        )
    return torch.zeros(len(recording.images), 1, dtype=torch.long, device=recording.images.device)


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
    if callable(targets):
        raise InputError("targets are class indices; give a function of the output as score=")
    try:
        chosen = torch.as_tensor(targets, device=logits.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"targets must be an int or a table of class indices (B, T), the same number for each image, found "
            f"{brief(repr(targets))}; fill shorter rows up by repeating a class, or explain those images apart"
        ) from error
    if chosen.dtype.is_floating_point or chosen.dtype in (torch.bool, torch.complex64, torch.complex128):
        raise InputError(f"targets must be class indices (int64), found {chosen.dtype}")
    chosen, found = chosen.long(), tuple(chosen.shape)
    if chosen.dim() == 0:
        chosen = chosen.expand(batch)
    if chosen.dim() == 1:
        chosen = chosen.unsqueeze(1)
    if chosen.dim() != 2 or len(chosen) != batch or not chosen.shape[1]:
        raise InputError(f"targets must be (B,) or (B, T) with B = {batch}, found {found}")
    outside = chosen[(chosen < 0) | (chosen >= classes)]
    if len(outside):
        raise InputError(f"target {int(outside[0])} is out of range: the model has classes 0 … {classes - 1}")
    return chosen
