"""For methods that need more than the tape keeps: run the model again, on the images of a recording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from agcam.evaluating import evaluating
from agcam.explainers.eager_attention import EagerAttention
from agcam.explainers.recorder import Recording
from agcam.explainers.replay import check_logits, mismatch, needs_conversion, working_dtype
from agcam.explainers.vit_parts import check_fit, inspect_vit, traceable


def empty_recording(model: nn.Module, images: Tensor) -> Recording:
    """Return a recording with no forward in it: `eager_forward` fills in the logits.

    Raises:
        InputError: if the model cannot take images of this size, type or device.
        ModelError: if the model cannot be explained, with the reason.
    """
    parts = inspect_vit(model)
    check_fit(parts, images)
    return Recording(parts, images, grid=parts.grid(images))


def eager_forward(recording: Recording, mode: EagerAttention) -> Tensor:
    """Run the model on the recording's images, its attention computed step by step by `mode`; return logits (B, C).

    Raises:
        ModelError: if these are not the recorded logits.
    """
    parts = recording.parts
    images = recording.images
    if mode.convert:
        images = images.clone().to(working_dtype(images))
    with evaluating(parts.backbone), traceable(parts), _without_checkpointing(parts.backbone):
        handle = parts.blocks[0].register_forward_pre_hook(mode.listen)
        try:
            with mode:
                logits: Tensor = parts.backbone(images)
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
def with_gradients(recording: Recording) -> Iterator[bool]:
    """Switch autograd on, whatever the caller has switched off, and autocast off.

    Yields:
        Whether to convert weights and images to float32.
    """
    device = recording.images.device.type
    convert = needs_conversion(recording.parts.backbone) or recording.images.is_inference()
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
        yield convert


def each_gradient(logits: Tensor, targets: Tensor, by: list[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Yield, for each of the T targets (B, T) in turn, ∂y / ∂ each of `by`, with y the target's logit."""
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
