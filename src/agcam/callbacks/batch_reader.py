"""From what any loader gives to agcam's batches, with what can be learned on the way of a module that says little."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn

from agcam.data.batch import Batch
from agcam.data.plain_batch import Dealing, as_batch, batch_length, dataset_length, read_dealing
from agcam.errors import InputError
from agcam.explainers.find_vit import inspect_vit
from agcam.explainers.model_info import ModelInfo, read_model_info
from agcam.explainers.raw_images import warn_of_raw_images
from agcam.explainers.recording import Recording


class BatchReader:
    """Reads the batches of one loader, an epoch at a time.

    Args:
        convert: makes (images, labels), {"image": …, "label": …} or a `Batch` of the loader's batches; None where they
            are one of these.

    Attributes:
        info: what is known of the model's classes and images.
        seen: images of plain batches in this epoch, on this process.
        batch_size: of the loader.
        in_order: whether the images' positions are those in the data set, the same every epoch.
    """

    def __init__(self, convert: Callable[[Any], Any] | None) -> None:
        self.info = ModelInfo()
        self.seen = 0
        self.in_order = True
        self.batch_size = 1
        self._convert = convert
        self._dealing = Dealing(0, 1, None, in_order=False)

    def begin(self, trainer: L.Trainer, model: L.LightningModule, loaders: Any) -> tuple[Any, float]:
        """Start over with the first loader; return its data set, None if it has none, and the number of images.

        The number is infinite where it is not known.
        """
        loader = loaders
        while isinstance(loader, Mapping | list | tuple) and len(loader):
            loader = next(iter(loader.values() if isinstance(loader, Mapping) else loader))
        self.seen, self.in_order = 0, True
        self.info = read_model_info(model, inspect_vit(model).backbone)
        self._dealing = read_dealing(loader, trainer.global_rank, trainer.world_size)
        length = dataset_length(loader)
        self.batch_size = int(getattr(loader, "batch_size", None) or 1)
        return getattr(loader, "dataset", None), math.inf if length is None else length

    def read(self, found: Any, recording: Recording) -> Batch:
        """Make agcam's batch of what the loader gave, and learn from its labels what the model does not say.

        Raises:
            InputError: if that cannot be done, or the model was run on other images than those of the batch.
        """
        found = found if self._convert is None else self._convert(found)
        count = batch_length(found)
        if count != len(recording.logits):
            raise InputError(
                f"the batch has {count} images, the last forward of the evaluation step had {len(recording.logits)}; "
                "explained are the images of a forward: run the model on those of the batch last"
            )
        if isinstance(found, Batch):
            return found
        if self.seen == 0:
            self._meet(recording)
        batch = as_batch(found, self._dealing.positions(self.seen, count), recording.logits.shape[1])
        self.seen += count
        if not self.info.knows_multilabel:  # where the module does not say, the form of its labels does
            self.info = replace(self.info, multilabel=batch.label.dim() == 2)
        return replace(batch, index=batch.index.to(batch.label.device))

    def _meet(self, recording: Recording) -> None:
        """Learn from the first forward on plain batches whether the ViT sees the images as they are."""
        known = read_model_info(recording.model, recording.parts.backbone, recording.direct_images)
        self.info = replace(self.info, mean=known.mean, std=known.std)
        warn_of_raw_images(recording.images, self.info)
        self.in_order = self._dealing.in_order
        if not self.in_order:
            rank_zero_warn(
                "the images of this loader are not in the order of their data set, as far as its sampler tells: drift "
                "is not logged, and the gallery need not show the same images every epoch; give batches an index "
                "(agcam.data.batch.Batch), or take shuffle=False"
            )
