"""Guided training: a loss on where the classifier looks, beside the loss on what it says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import lightning as L
import torch
from torch import Tensor, nn

from agcam.data.batch import Batch
from agcam.data.ground_truth import Pairs, box_truth, labeled_targets, mask_truth
from agcam.errors import ModelError
from agcam.explainers.guidance import guidance_loss
from agcam.explainers.recorder import Tape
from agcam.metrics.maps import fill_boxes
from agcam.training.precision import at_least_single

GuidanceTarget = Literal["boxes", "masks"]
GuidanceLoss = Literal["energy"]


@dataclass(frozen=True)
class Guidance:
    """How a classifier is taught to look at the objects.

    The loss of an image with an annotated object grows by weight × guidance; other images have their loss alone. It is
    the mean over all images of a batch that is trained on, so batches and processes make no difference. Where few
    images are annotated, give them more weight.

    Attributes:
        weight: of the guidance beside the loss of the logits, which a well-trained model has near 0; at most 1 is lost
            by guidance.
        target: what says where the objects are, "boxes" or "masks".
        loss: "energy", the share of AG-CAM's heatmap of the labeled class outside the object (see `guidance_loss`); in
            multi-label data the mean over the image's annotated classes.
        warmup_epochs: epochs in which the weight rises from 0, linearly; fractions are fine.
    """

    weight: float = 0.5
    target: GuidanceTarget = "boxes"
    loss: GuidanceLoss = "energy"
    warmup_epochs: float = 0.0


@dataclass(frozen=True)
class GuidedObjects:
    """The annotated objects of a batch.

    Attributes:
        targets: (B, T) int64, their classes.
        regions: (B, T, H, W) bool, their pixels; none where an image has fewer than T.
        ignored: (B, T, H, W) bool, pixels of unknown class, or None.
    """

    targets: Tensor
    regions: Tensor
    ignored: Tensor | None

    @property
    def guided(self) -> Tensor:
        """Whether an image has any, (B,) bool."""
        return self.regions.flatten(1).any(1)


def read_guidance(options: Guidance | Mapping[str, Any] | None) -> Guidance | None:
    """Make the options of a mapping, as checkpoints hold them, and check them.

    Raises:
        ModelError: naming one that is unknown or out of its range.
    """
    if isinstance(options, Mapping):
        known = [field.name for field in fields(Guidance)]
        if unknown := sorted(set(options) - set(known)):
            raise ModelError(f"model.guidance has no {', '.join(map(str, unknown))}; it has {', '.join(known)}")
        options = Guidance(**options)
    if options is None:
        return None
    for name in ("weight", "warmup_epochs"):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ModelError(f"model.guidance.{name} is {value!r}, expected a number, at least 0")
    for name, choices in (("target", get_args(GuidanceTarget)), ("loss", get_args(GuidanceLoss))):
        if getattr(options, name) not in choices:
            raise ModelError(f"model.guidance.{name} is {getattr(options, name)!r}, expected {' or '.join(choices)}")
    return options


def guided_objects(batch: Batch, target: GuidanceTarget) -> GuidedObjects | None:
    """Find the objects of the labeled classes in a batch; None if no image has any annotated."""
    _, pairs = labeled_targets(batch)
    size = (int(batch.image.shape[-2]), int(batch.image.shape[-1]))
    if target == "masks":
        truth, unknown, known = mask_truth(batch, pairs)
        pairs, truth, ignored = pairs.keep(known), truth[known], unknown[known]
    else:
        boxes, known = box_truth(batch, pairs)
        pairs = pairs.keep(known)
        filled = [torch.from_numpy(fill_boxes(entry.cpu(), size)) for entry in boxes if len(entry)]
        truth, ignored = torch.stack(filled).to(batch.image.device) if filled else torch.empty(0), None
    if not len(pairs.image):
        return None
    slots = _slots(pairs)
    shape = (len(batch), int(slots.max()) + 1)
    targets = torch.zeros(shape, dtype=torch.int64, device=batch.image.device)
    targets[pairs.image, slots] = pairs.object

    def spread(pixels: Tensor) -> Tensor:
        found = torch.zeros((*shape, *size), dtype=torch.bool, device=batch.image.device)
        found[pairs.image, slots] = pixels
        return found

    return GuidedObjects(targets, spread(truth), None if ignored is None else spread(ignored))


def guided_forward(model: nn.Module, images: Tensor, objects: GuidedObjects | None) -> tuple[Tensor, Tensor]:
    """Run a classifier, and say how far it looks away from the objects.

    Args:
        model: from images to logits, with one ViT inside.
        images: (B, 3, H, W).
        objects: of the images; None leaves the guidance out.

    Returns:
        Logits (B, C) and the guidance of each image, (B,): 0 for those without an object, and for all of them where a
        logit is not finite, which the loss of the logits will tell.
    """
    if objects is None:
        logits = at_least_single(model(images))
        return logits, logits.new_zeros(len(logits))
    with Tape(model, graph=True) as tape:
        logits = at_least_single(model(images))
    if not bool(logits.isfinite().all()):
        return logits, logits.new_zeros(len(logits))
    return logits, guidance_loss(tape.recording, objects.targets, objects.regions, objects.ignored)


def warmed_up(guidance: Guidance, trainer: L.Trainer, batch_idx: int) -> float:
    """Return the weight at a batch of the present epoch, which a resumed run has the same."""
    if not guidance.warmup_epochs:
        return guidance.weight
    passed = trainer.current_epoch + batch_idx / trainer.num_training_batches
    return guidance.weight * min(1.0, passed / guidance.warmup_epochs)


def log_guidance(module: L.LightningModule, losses: Tensor, objects: GuidedObjects | None) -> int:
    """Log `train/guidance`, the mean over the images of a batch that have an object, on all processes.

    Returns:
        How many images these are; nothing is logged if there is none.
    """
    guided = torch.zeros(len(losses), dtype=torch.bool, device=losses.device) if objects is None else objects.guided
    sums = torch.stack([losses.detach()[guided].sum(), guided.sum()])
    total, count = module.trainer.strategy.reduce(sums, reduce_op="sum")
    if count:
        module.log("train/guidance", total / count, batch_size=len(losses))
    return int(count)


def _slots(pairs: Pairs) -> Tensor:
    """Number the pairs of each image from 0: (P,) int64."""
    same = pairs.image[:, None] == pairs.image
    return same.tril(-1).sum(1)
