"""Explain a split, and collect its looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from agcam.audit.hiding import choose_hidden, probability_without, target_probability
from agcam.audit.looks import MISSED, RIGHT, WRONG, Looks
from agcam.audit.places import margin
from agcam.data.batch import Batch, collate
from agcam.data.ground_truth import Pairs, box_truth, mask_truth, padded_targets
from agcam.data.source import ExampleDataset, TransformedDataset
from agcam.data.transforms import Transform
from agcam.errors import ModelError
from agcam.evaluating import evaluating
from agcam.explainers.explain import check_image_batch, explain_recording
from agcam.explainers.lean_forward import record_lean
from agcam.explainers.patch_grid import patch_columns
from agcam.explainers.recording import Recording
from agcam.metrics.localization.pointing_game import pointing_hits
from agcam.metrics.maps import fill_boxes
from agcam.training.loaded import LoadedModel

_THRESHOLD = 0.5
_CLEAR = 1e-6


def collect_looks(
    subject: LoadedModel,
    source: ExampleDataset,
    positions: Sequence[int],
    batch_size: int,
    num_workers: int = 0,
    done: Callable[[int], None] = lambda count: None,
) -> Looks:
    """Explain images for their labels and for what is predicted, and hide what is hot outside the objects.

    In single-label data the predicted class is the most probable one, in multi-label data each of at least 50 %.

    Args:
        subject: the model, on its device.
        source: images and annotations.
        positions: which of them.
        batch_size: images in a forward pass.
        num_workers: loader processes.
        done: called with the number of images of each batch.

    Raises:
        AgcamError: for images that cannot be read, or a model that cannot be explained.
    """
    dataset = TransformedDataset(source, Transform(subject.input_config))
    groups = [list(positions[start : start + batch_size]) for start in range(0, len(positions), batch_size)]
    device = next(subject.model.parameters()).device
    parts = []
    for batch in DataLoader(dataset, batch_sampler=groups, collate_fn=collate, num_workers=num_workers):
        parts.append(looks_of(subject.model, subject.multilabel, batch.to(device)))
        done(len(batch))
    return Looks.join(parts)


def looks_of(model: nn.Module, multilabel: bool, batch: Batch) -> Looks:
    """Return the looks of one batch, which is on the model's device."""
    check_image_batch(batch.image)
    with evaluating(model):
        recording = record_lean(model, batch.image)
    logits = recording.logits.float()
    present, predicted = _classes(logits, batch, multilabel)
    targets, pairs = padded_targets(present | predicted)
    image, slot, chosen = pairs.image, pairs.slot, pairs.object
    explanation = explain_recording(recording, targets)
    maps = explanation.heatmaps[image, slot]
    if not bool(torch.isfinite(maps).all()):
        raise ModelError("a heatmap holds NaN or infinity; look at the model's weights")
    size = (int(batch.image.shape[2]), int(batch.image.shape[3]))
    extent = explanation.extent or size
    energy = maps.clamp_min(0)
    heat = energy / energy.sum((1, 2), keepdim=True).clamp_min(torch.finfo(energy.dtype).tiny)

    is_there, is_said = present[image, chosen], predicted[image, chosen]
    there = chosen if multilabel else batch.label[image]
    pixels, known = _objects(batch, Pairs(image, slot, there))
    if multilabel:
        known &= is_there
    covered = _shares(pixels, extent, recording.grid)
    edge = torch.from_numpy(margin(recording.grid)).to(heat.device)
    outside = torch.where(known[:, None, None], covered < _CLEAR, edge)
    hidden, others = choose_hidden(heat, outside, batch.index[image])
    possible = hidden.flatten(1).any(1)
    without = [
        probability_without(model, batch.image[image], chosen, patches, extent, multilabel).masked_fill(
            ~possible, torch.nan
        )
        for patches in (hidden, *others)
    ]
    hit = torch.full_like(heat[:, 0, 0], torch.nan)
    if bool(known.any()):
        hit[known] = pointing_hits(explanation.placed[image, slot][known], pixels[known]).float()
    said = chosen if multilabel else logits.argmax(1)[image]
    outcome = torch.where(is_there & is_said, RIGHT, torch.where(is_there, MISSED, WRONG))
    return Looks(
        index=_numpy(batch.index[image]),
        name=np.array([batch.name[row] for row in image.tolist()], dtype=object),
        target=_numpy(chosen),
        other=_numpy(torch.where(is_said, there, said)),
        outcome=_numpy(outcome),
        decides=_numpy(torch.ones_like(is_said) if multilabel else is_said),
        probability=_numpy(target_probability(logits[image], chosen, multilabel)),
        heat=_numpy(heat),
        object=_numpy(covered.masked_fill(~known[:, None, None], torch.nan)),
        hit=_numpy(hit),
        features=_numpy(_features(recording, image, heat)),
        hidden=_numpy(hidden),
        kept=_numpy(without[0]),
        control=_numpy(torch.stack(without[1:]).mean(0)),
    )


def _classes(logits: Tensor, batch: Batch, multilabel: bool) -> tuple[Tensor, Tensor]:
    """Return which classes are there, and which are predicted: (B, C) bool both."""
    if multilabel:
        return batch.label > 0, logits.sigmoid() >= _THRESHOLD
    classes = torch.arange(logits.shape[1], device=logits.device)
    return classes == batch.label[:, None], classes == logits.argmax(1)[:, None]


def _objects(batch: Batch, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Return the pixels (P, H, W) bool of each pair's object, by mask or else by boxes, and which have any, (P,)."""
    size = (int(batch.image.shape[2]), int(batch.image.shape[3]))
    masks, _, masked = mask_truth(batch, pairs)
    boxes, boxed = box_truth(batch, pairs)
    filled = [torch.from_numpy(fill_boxes(entry.cpu(), size)) for entry in boxes]
    pixels = torch.stack(filled).to(batch.image.device) if filled else masks.expand(-1, *size)
    return torch.where(masked[:, None, None], masks, pixels), masked | boxed


def _shares(pixels: Tensor, extent: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Return the share (P, h, w) of each patch that pixels (P, H, W) bool cover."""
    height, width = extent
    rest = (0, max(0, width - pixels.shape[2]), 0, max(0, height - pixels.shape[1]))
    return F.adaptive_avg_pool2d(F.pad(pixels[:, None, :height, :width].float(), rest), grid)[:, 0]


def _features(recording: Recording, image: Tensor, heat: Tensor) -> Tensor:
    """Return what the last attention reads of each patch, its values, as a mean weighted by heat: (P, D)."""
    value = recording.calls[-1].value.float().transpose(1, 2).flatten(2)  # (B, N, heads · d)
    patches = patch_columns(recording, value.transpose(1, 2))  # (B, D, h · w)
    return torch.einsum("pdn,pn->pd", patches[image], heat.flatten(1))


def _numpy(tensor: Tensor) -> np.ndarray:
    found: np.ndarray = tensor.detach().cpu().numpy()
    return found
