"""Whether a second forward is the first: one place, for every method. A map that cannot be checked is not made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from agcam.errors import ModelError
from agcam.explainers.own_thread import OwnThreadHook
from agcam.explainers.recording import Recording
from agcam.module_tree import named_modules


def check_output(recording: Recording, read: list[Tensor], logits: Tensor) -> None:
    """Raise `ModelError` unless an output is the recorded one, as far as the forward's precision can tell.

    Args:
        recording: of the first forward.
        read: the tensors read of the second one's output.
        logits: (B, C), or the scores, of the second one.
    """
    tolerance = _tolerance(recording.calls[0].output.dtype if recording.calls else recording.logits.dtype)
    parts = recording.parts
    narrow = parts.runs_itself and recording.has_classes and (parts.rows.stop is not None or parts.pools_by_attention)
    if len(read) != len(recording.read):
        raise mismatch(recording, f"it returned {len(recording.read)} tensors, running it again gives {len(read)}")
    for expected, found in zip([recording.logits, *recording.read], [logits, *read], strict=True):
        if expected.shape != found.shape:
            raise mismatch(
                recording, f"it has logits {tuple(expected.shape)}, running it again gives {tuple(found.shape)}"
            )
        if not expected.numel():
            continue
        if narrow and found is not logits and not bool(torch.isfinite(found).all()):
            continue  # tokens that the model returns beside what is explained; those that it does not read are NaN
        expected = expected.to(found.dtype)
        difference = float((expected - found.detach()).abs().max())
        scale = float(expected.abs().max())
        if not difference <= tolerance * scale + 1e-6:
            raise mismatch(
                recording, f"its logits differ by {difference:.2g} (scale {scale:.2g}) when its blocks are run again"
            )


def same_output(one: object, other: Tensor) -> bool:
    """Return whether an output is a tensor and the same as another, as far as the precision can tell."""
    if not isinstance(one, Tensor) or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool((one - other).abs().max() <= _tolerance(one.dtype) * one.abs().max() + 1e-6)


def _tolerance(precision: torch.dtype) -> float:
    if precision == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        return 0.1
    return {torch.float64: 1e-8, torch.float32: 1e-3}.get(precision, 0.1)


def check_classes(recording: Recording, method: str) -> None:
    """Raise `ModelError` if the model returns the features of a ViT without classifier."""
    if not recording.has_classes:
        raise no_classifier(recording, method)


def no_classifier(recording: Recording, method: str) -> ModelError:
    """Make the error for a ViT whose output are features, of which none is a class."""
    return ModelError(
        f"{recording.parts.name} has no classifier, and {method} explains classes: put a head on it and explain both "
        "together, such as nn.Sequential(vit, head); or give score=, a function of its output, such as "
        "agcam.similarity(text_features); raw_attention and rollout need neither"
    )


def check_gradient(recording: Recording, logits: Tensor) -> None:
    """Raise `ModelError` if no gradient passes from the logits (B, C) back into the model."""
    if not logits.requires_grad:
        raise _no_gradient(recording)


def _no_gradient(recording: Recording) -> ModelError:
    return ModelError(
        f"{recording.parts.name} cannot be explained: no gradient passes from the model's output to its attention. "
        "Something between them switches autograd off: torch.no_grad, torch.inference_mode, .detach(), an argmax, "
        "reentrant checkpointing; take it out, or give as score what comes before it"
    )


def check_no_quantized_weights(recording: Recording) -> None:
    """Raise `ModelError` if the model has modules of torch.ao's quantization, whose gradient autograd takes for 0."""
    for name, module in named_modules(recording.model):
        if ".quantized" in type(module).__module__:
            raise ModelError(
                f"{recording.parts.name} cannot be explained: {name} is a quantized {type(module).__name__}, through "
                "which no gradient passes; explain the model before it is quantized, or use raw_attention or rollout"
            )


@contextmanager
def explaining_gradients(recording: Recording) -> Iterator[None]:
    """Turn autograd's own errors, of a model through which no gradient passes, into a `ModelError`."""
    try:
        yield
    except RuntimeError as error:
        if any(said in str(error) for said in ("not have been used in the graph", "does not require grad")):
            raise _no_gradient(recording) from error
        if "torch.utils.checkpoint" not in str(error):
            raise
        raise ModelError(
            f"{recording.parts.name} cannot be explained: the model runs it by torch.utils.checkpoint, once more in "
            "backward, when nothing of the first forward is there to answer it; switch checkpointing off to explain"
        ) from error


def mismatch(recording: Recording, what: str) -> ModelError:
    """Make the error for a model whose replay cannot be trusted."""
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in (recording.logits, *recording.read))
    if not finite:
        what = "its logits are not finite; look for NaN in the images or weights"
    elif recording.has_graph:
        what += (
            "; a forward whose graph is kept may drop whole branches at random (drop path), but neither single numbers "
            "nor patches, and its attention may read its input as queries, keys and values alone (no gates): set other "
            "dropout rates than drop path's to 0"
        )
    elif recording.parts.backbone.training:
        what += "; it is in training mode, call model.eval() first"
    elif foreign := _foreign_hooks(recording.model):
        what += f"; hooks of others are on {foreign}, which may change what it computes: remove them first"
    return ModelError(
        f"{recording.parts.name} cannot be explained: {what}. Its head must read the class token, an average of "
        "tokens or an attention pooling, and tokens may mix only in scaled_dot_product_attention."
    )


def _foreign_hooks(model: nn.Module) -> str:
    """Name the modules with forward hooks that are not agcam's, the first three."""
    names = [
        name or type(module).__name__
        for name, module in model.named_modules()
        if any(
            not isinstance(hook, OwnThreadHook)
            for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        )
    ]
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
