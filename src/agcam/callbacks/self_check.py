"""Check on one image, before the first step, that the model can be explained."""

from __future__ import annotations

from collections.abc import Iterable

import lightning as L
import torch
from torch import Tensor, nn

from agcam.errors import ModelError
from agcam.evaluating import evaluating
from agcam.explainers.explain import explain_recording
from agcam.explainers.find_vit import inspect_vit
from agcam.explainers.recorder import Tape
from agcam.explainers.vit_parts import check_fit


def check_explainable(trainer: L.Trainer, model: L.LightningModule, methods: Iterable[str]) -> None:
    """Explain one image of noise by each method, as validation will, on this process only.

    It leaves modes, gradients, hooks and random numbers as found.

    Raises:
        InputError: if the model does not take images of the data's size, or a method lacks its package.
        ModelError: if the model cannot be explained; the message says how to train without.
    """
    explained = explained_module(model)
    try:
        with evaluating(model), torch.inference_mode():
            tape = Tape(explained)
            image = _noise(model, tape).to(model.device)
            check_fit(tape.parts, image.to(next(tape.parts.backbone.parameters()).dtype))
            with tape, trainer.precision_plugin.forward_context():
                try:
                    explained(image)
                except (TypeError, KeyError, AttributeError, IndexError):
                    # what the forward of somebody else's module takes is not known: the first batch will tell
                    if explained is not model or getattr(model, "input_config", None) is not None:
                        raise
                    return
            for method in methods:
                explain_recording(tape.recording, None, method)
    except ModelError as error:
        said = str(error).rstrip(".")
        raise ModelError(f"{said}. To train without explanations: --explain false") from error


def explained_module(model: L.LightningModule) -> nn.Module:
    """Return what is explained: the module, or, where it has no forward of its own, the ViT that its steps call.

    Raises:
        ModelError: if it has neither a forward nor a ViT with a classifier: its steps know the head, and nobody else.
    """
    if type(model).forward is not L.LightningModule.forward:
        return model
    parts = inspect_vit(model)
    if not parts.has_classifier:
        raise ModelError(
            f"{type(model).__name__} has no forward, and its {parts.name} no classifier, so that what turns features "
            "into classes cannot be seen: define forward(images) that returns logits, and call self(images) in "
            "validation_step. To train without explanations: --explain false"
        )
    return parts.backbone


def _noise(model: L.LightningModule, tape: Tape) -> Tensor:
    """Make an image (1, C, H, W) of the size that the module or its ViT names."""
    config, parts = getattr(model, "input_config", None), tape.parts
    side = getattr(config, "size", None)
    size = (side, side) if side else parts.embedding.size or (224, 224)
    # of a generator of its own: the global random numbers are those of training
    noise = torch.Generator().manual_seed(0)
    return torch.rand(1, parts.embedding.channels, *size, generator=noise)
