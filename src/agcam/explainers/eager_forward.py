"""For methods that need more than the tape keeps: they run the model themselves, on the images of a recording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from agcam.errors import ModelError
from agcam.explainers.eager_attention import Explicit
from agcam.explainers.recorder import Recording
from agcam.explainers.replay import check_logits, mismatch, needs_conversion
from agcam.explainers.vit_parts import Anatomy, check_fit, dissect, traceable


def unrecorded(model: nn.Module, images: Tensor) -> Recording:
    """A recording with no forward in it yet: a method that runs the model itself fills in the logits.

    Raises:
        InputError: if the model cannot take images of this size, type or device.
        ModelError: if the model cannot be explained, with the reason.
    """
    anatomy = dissect(model)
    check_fit(anatomy, images)
    return Recording(anatomy, images, grid=anatomy.grid(images))


def run(recording: Recording, mode: Explicit) -> Tensor:
    """Logits (B, C) of a forward on the recording's images, its attention computed step by step by `mode`.

    Raises:
        ModelError: if these are not the recorded logits.
    """
    anatomy = recording.anatomy
    images = recording.images
    if mode.convert:
        images = images.clone().to(_working_dtype(images))
    with evaluating(anatomy.backbone), traceable(anatomy), _without_checkpointing(anatomy.backbone):
        handle = anatomy.blocks[0].register_forward_pre_hook(mode.listen)
        try:
            with mode:
                logits: Tensor = anatomy.backbone(images)
        finally:
            handle.remove()
    if not bool(torch.isfinite(logits).all()):
        raise mismatch(recording, "its logits are not finite")
    if not recording.logits.numel():
        recording.logits = logits.detach()
    elif not recording.calls:
        raise mismatch(recording, "it made no scaled_dot_product_attention call between its first block and its head")
    else:
        check_logits(recording, logits)
    return logits


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, each module's own mode as before outside."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def with_gradients(recording: Recording) -> Iterator[bool]:
    """Autograd on, whatever the caller has switched off, and no autocast; yields whether to convert to float32."""
    device = recording.images.device.type
    convert = needs_conversion(recording.anatomy.backbone) or recording.images.is_inference()
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
        yield convert


def check_class_token(anatomy: Anatomy, method: str) -> None:
    """Raise `ModelError` unless the head reads one class token that runs through all blocks."""
    found = None
    if anatomy.class_attention:
        found = "has its class token in its last, class-attention, blocks alone"
    elif getattr(anatomy.backbone, "attn_pool", None) is not None:
        found = "pools its tokens by attention"
    elif anatomy.rows == slice(None):
        found = "pools over its tokens"
    elif anatomy.rows != slice(0, 1):
        found = "has more than one token that the head reads"
    if found:
        raise ModelError(
            f"{method} follows one class token through all blocks, {anatomy.name} {found}; "
            "use agcam or raw_attention, which reach it"
        )


def check_calls(recording: Recording, found: int, method: str) -> None:
    """Raise `ModelError` unless each block made one attention call."""
    blocks = len(recording.anatomy.blocks)
    if found != blocks:
        raise mismatch(recording, f"{method} needs one attention a block, its {blocks} blocks made {found}")


def on_patches(recording: Recording, columns: Tensor) -> Tensor:
    """Columns of attention matrices (…, N) without those before the patches, on the grid: (…, h, w)."""
    (h, w), prefix = recording.grid, recording.anatomy.num_prefix_tokens
    if columns.shape[-1] != prefix + h * w:
        raise mismatch(
            recording, f"its attention has {columns.shape[-1]} columns, not {prefix} and a patch grid of {h}×{w}"
        )
    return columns[..., prefix:].reshape(*columns.shape[:-1], h, w).float()


def each_gradient(logits: Tensor, targets: Tensor, by: list[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """For each of the T targets (B, T) in turn: ∂y / ∂ each of `by`, y the target's logit."""
    for target in targets.unbind(1):
        chosen = logits.gather(1, target[:, None]).sum()
        yield torch.autograd.grad(chosen, by, retain_graph=True)


@contextmanager
def _without_checkpointing(backbone: nn.Module) -> Iterator[None]:
    # it would run the blocks once more in backward, when no mode is there to compute their attention matrices
    switched_on = [module for module in backbone.modules() if getattr(module, "grad_checkpointing", False)]
    for module in switched_on:
        vars(module)["grad_checkpointing"] = False
    try:
        yield
    finally:
        for module in switched_on:
            vars(module)["grad_checkpointing"] = True


def _working_dtype(images: Tensor) -> torch.dtype:
    return torch.float64 if images.dtype == torch.float64 else torch.float32
