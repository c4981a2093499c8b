"""Whether the model can be explained: tried on one image before the first step."""

from __future__ import annotations

from collections.abc import Iterable

import lightning as L
import torch
from torch import Tensor

from agcam.errors import ModelError
from agcam.evaluating import evaluating
from agcam.explainers.explain import explain_recording
from agcam.explainers.recorder import Tape
from agcam.explainers.vit_parts import check_fit


def check_explainable(trainer: L.Trainer, model: L.LightningModule, methods: Iterable[str]) -> None:
    """Explain one image of noise by each method, as validation will, on this process alone.

    Costs as much as explaining one image. Modes, gradients, hooks and random numbers are as before.

    Raises:
        InputError: if the model does not take images of the data's size, or a method lacks its package.
        ModelError: if the model cannot be explained; the message says how to train without.
    """
    try:
        with evaluating(model), torch.inference_mode():
            tape = Tape(model)
            image = _noise(model, tape).to(model.device)
            check_fit(tape.parts, image.to(next(tape.parts.backbone.parameters()).dtype))
            # what the forward of somebody else's module takes is not known
            known = getattr(model, "input_config", None) is not None
            with tape, trainer.precision_plugin.forward_context():
                (model if known else tape.parts.backbone)(image)
            for method in methods:
                explain_recording(tape.recording, None, method)
    except ModelError as error:
        said = str(error).rstrip(".")
        raise ModelError(f"{said}. To train without explanations: --explain false") from error


def _noise(model: L.LightningModule, tape: Tape) -> Tensor:
    """Make an image (1, C, H, W) of the size that the module or its ViT names."""
    config, parts = getattr(model, "input_config", None), tape.parts
    side = getattr(config, "size", None)
    size = (side, side) if side else getattr(parts.embedding, "img_size", None) or (224, 224)
    # of a generator of its own: the global random numbers are those of training
    noise = torch.Generator().manual_seed(0)
    return torch.rand(1, getattr(parts.backbone, "in_chans", 3), *size, generator=noise)
