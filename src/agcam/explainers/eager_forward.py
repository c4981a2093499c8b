"""For methods that need more than the tape keeps: run the model again, on the images of a recording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from agcam.evaluating import evaluating
from agcam.explainers.differentiable import needs_conversion, working_dtype
from agcam.explainers.eager_attention import EagerAttention
from agcam.explainers.find_vit import inspect_vit
from agcam.explainers.outputs import OutputReader
from agcam.explainers.recording import Recording
from agcam.explainers.self_check import check_gradient, check_no_quantized_weights, check_output, mismatch
from agcam.explainers.vit_parts import check_fit, traceable, unwrap, without_checkpointing
from agcam.explainers.watching import Run, Watch


def empty_recording(
    model: nn.Module, images: Tensor, reader: OutputReader | None = None, vit: str | None = None
) -> Recording:
    """Return a recording with no forward in it: `eager_forward` fills in the rest.

    The patch grid is that of `images`, until a forward tells what the model makes of them before its ViT.

    Raises:
        InputError: if the model is a ViT that cannot take images of this size, type or device.
        ModelError: if the model cannot be explained, with the reason.
    """
    whole, parts = unwrap(model), inspect_vit(model, vit)
    if whole is parts.backbone:
        check_fit(parts, images)
    return Recording(whole, parts, images, grid=parts.grid(images), reader=reader or OutputReader(), vit=vit)


def eager_forward(recording: Recording, mode: EagerAttention) -> Tensor:
    """Run the model on the recording's images, its attention computed step by step by `mode`; return logits (B, C).

    Raises:
        InputError: if the model cannot take images of this size, type or device.
        ModelError: if the output is not the recorded one.
    """
    with evaluating(recording.model):
        return run_eagerly(recording, mode)


def run_eagerly(recording: Recording, mode: EagerAttention) -> Tensor:
    """Do as `eager_forward` in the mode, training or evaluation, that the model is in."""
    images, finished, recorded = recording.images, list[tuple[list[Tensor], Tensor]](), recording.has_forward
    if mode.convert:
        images = images.clone()
        images = images.to(working_dtype(images))

    def entered(run: Run, args: tuple[Any, ...]) -> None:
        mode.listening = True

    def left() -> None:
        mode.listening = False

    def finish(run: Run, returned: Any) -> None:
        finished.append(recording.finish(run, returned))

    watch = Watch(recording.model, recording.parts, entered, left, finish, mode.convert)
    with traceable(recording.parts), without_checkpointing(recording.model), watch.watching(), mode:
        recording.model(images)
    if not finished:
        raise mismatch(recording, "it ran without calling its blocks")
    ((read, logits),) = finished
    if not all(bool(torch.isfinite(tensor).all()) for tensor in (logits, *read)):
        raise mismatch(recording, "its logits are not finite")
    if recorded:
        check_output(recording, read, logits)
    if torch.is_grad_enabled() and recording.has_classes:
        check_no_quantized_weights(recording)
        check_gradient(recording, logits)
    return logits


@contextmanager
def with_gradients(recording: Recording) -> Iterator[bool]:
    """Switch autograd on, whatever the caller has switched off, and autocast off.

    Yields:
        Whether to convert weights and images to float32.
    """
    device = recording.images.device.type
    convert = needs_conversion(recording) or recording.images.is_inference()
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
        yield convert


def each_gradient(logits: Tensor, targets: Tensor, by: list[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Yield, for each of the T targets (B, T) in turn, ∂y / ∂ each of `by`, with y the target's logit."""
    for target in targets.unbind(1):
        chosen = logits.gather(1, target[:, None]).sum()
        yield torch.autograd.grad(chosen, by, retain_graph=True)
