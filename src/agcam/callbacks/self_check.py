"""Check on one image, before the first step, that the model can be explained."""

from __future__ import annotations

from collections.abc import Iterable

import lightning as L
import torch

from agcam.errors import ModelError
from agcam.evaluating import evaluating
from agcam.explainers.explain import explain_recording
from agcam.explainers.recorder import Tape
from agcam.explainers.vit_parts import check_fit
from agcam.training.classifier import ViTClassifier


def check_explainable(trainer: L.Trainer, model: ViTClassifier, methods: Iterable[str]) -> None:
    """Explain one image of noise by each method, as validation will, on this process only.

    It leaves modes, gradients, hooks and random numbers as found.

    Raises:
        InputError: if the model does not take images of the data's size, or a method lacks its package.
        ModelError: if the model cannot be explained; the message says how to train without.
    """
    size = model.input_config.size
    # its own generator: the global one belongs to training
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(model.device)
    try:
        with evaluating(model), torch.inference_mode():
            tape = Tape(model)
            check_fit(tape.parts, image.to(next(tape.parts.backbone.parameters()).dtype))
            with tape, trainer.precision_plugin.forward_context():
                model(image)
            for method in methods:
                explain_recording(tape.recording, None, method)
    except ModelError as error:
        said = str(error).rstrip(".")
        raise ModelError(f"{said}. To train without explanations: --explain false") from error
