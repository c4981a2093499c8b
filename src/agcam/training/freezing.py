"""Training the head before the backbone, and the backbone's blocks one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from timm.models import group_parameters
from torch import nn

from agcam.errors import ModelError


class GradualUnfreezing(L.Callback):
    """Freezes the backbone below its classifier for some epochs, then frees its blocks from the top down.

    A frozen parameter has no gradient when the optimizer steps, so neither weight decay nor Adam's moments touch it
    and clipping does not count it. One process saves the backward through frozen blocks; several processes make all
    gradients and drop those of frozen parameters, because DistributedDataParallel decides once, at the start, whose
    gradients it sums. What is frozen depends on the epoch alone, so a resumed run freezes the same. Lightning's
    `BackboneFinetuning` adds parameter groups while it trains instead, without layer-wise learning rates.

    Args:
        epochs: how many epochs the classifier trains alone.
        blocks_per_epoch: how many blocks each epoch after them frees; 0 frees all at once. The embeddings come last.
    """

    def __init__(self, epochs: int, blocks_per_epoch: int) -> None:
        self.epochs = epochs
        self.blocks_per_epoch = blocks_per_epoch
        self._backbone: list[nn.Parameter] = []
        self._frozen: list[nn.Parameter] = []
        self._epoch = -1

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """List the parameters to freeze, without those that timm itself keeps fixed."""
        self._backbone = [parameter for parameter in parameters_below(pl_module.backbone) if parameter.requires_grad]  # type: ignore[arg-type]  # a ViTClassifier's

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Freeze and free when the epoch is new. A run resumed within an epoch gets no `on_train_epoch_start`."""
        if trainer.current_epoch == self._epoch:
            return
        self._epoch = trainer.current_epoch
        freed = self._epoch - self.epochs + 1
        everything = freed > 0 and not self.blocks_per_epoch
        layers = max(0, freed) * self.blocks_per_epoch
        still = set() if everything else set(parameters_below(pl_module.backbone, layers))  # type: ignore[arg-type]  # as above
        self._frozen = [parameter for parameter in self._backbone if parameter in still]
        if trainer.world_size == 1:
            for parameter in self._backbone:
                parameter.requires_grad_(parameter not in still)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Drop the gradients of frozen parameters; clipping comes after this."""
        for parameter in self._frozen:
            parameter.grad = None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the model as it was found."""
        for parameter in self._backbone:
            parameter.requires_grad_(True)


def parameters_below(backbone: nn.Module, freed: int = 0) -> Iterator[nn.Parameter]:
    """Yield the parameters of a timm model below its classifier and its `freed` uppermost layers.

    Layers are those of timm's layer-wise learning rates: a block each, the final norm with the last, the embeddings.

    Raises:
        ModelError: if the model has no classifier.
    """
    heads = backbone.get_classifier()  # type: ignore[operator]  # every timm model has it
    classifier = {p for head in (heads if isinstance(heads, tuple) else (heads,)) for p in head.parameters()}
    if not classifier:
        raise ModelError(f"{type(backbone).__name__} has no classifier to train on a frozen backbone")
    matcher = backbone.group_matcher(coarse=False)  # type: ignore[operator]  # as above
    layers: dict[str, int] = group_parameters(backbone, matcher, reverse=True)
    top = max(layers[name] for name, parameter in backbone.named_parameters() if parameter in classifier)
    for name, parameter in backbone.named_parameters():
        if parameter not in classifier and (not freed or layers[name] < top - freed):
            yield parameter
