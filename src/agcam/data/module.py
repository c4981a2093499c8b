"""What the data modules share: splits, loaders, and transforms that fit the model."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from agcam.data.batch import Batch, Sample, collate
from agcam.data.input_config import InputConfig, Interpolation, Resize, Triple
from agcam.data.source import Source, TransformedDataset
from agcam.data.transforms import Augmentation, Transform
from agcam.errors import DataError

Split = Literal["train", "val", "test"]
_SPLITS: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}


class ImageDataModule(LightningDataModule, ABC):
    """Images with labels, boxes and masks; a data set is a subclass that opens a `Source` for each split.

    Args:
        batch_size: images in a batch, on each process.
        num_workers: loader processes; None takes one for each core that this process may use, at most 8.
        resize: what evaluation does with an image: "squash" it to a square, or "center_crop" it.
        augmentation: what training does with an image.
        image_size: side in pixels; None takes the model's.
        mean: per channel, of images in [0, 1]; None takes the model's.
        std: per channel; None takes the model's.
        interpolation: None takes the model's.
    """

    def __init__(
        self,
        batch_size: int = 32,
        num_workers: int | None = None,
        resize: Resize = "squash",
        augmentation: Augmentation = Augmentation(),  # noqa: B008  # frozen, and jsonargparse shows it in --help
        image_size: int | None = None,
        mean: Triple | None = None,
        std: Triple | None = None,
        interpolation: Interpolation | None = None,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = min(8, len(os.sched_getaffinity(0))) if num_workers is None else num_workers
        self.augmentation = augmentation
        given = {"size": image_size, "mean": mean, "std": std, "interpolation": interpolation, "resize": resize}
        self._given = {name: value for name, value in given.items() if value is not None}
        self.input_config = replace(InputConfig(), **self._given)  # type: ignore[arg-type]  # values fit by construction
        self._sources: dict[Split, Source] = {}

    @abstractmethod
    def open(self, split: Split) -> Source:
        """Open a split.

        Raises:
            DataError: for anything missing or contradictory, naming the file.
        """

    @property
    def class_names(self) -> list[str]:
        """Names by class index; known after `setup`."""
        return self._any_source().class_names

    @property
    def multilabel(self) -> bool:
        """Whether an image may show several classes; known after `setup`."""
        return self._any_source().multilabel

    def setup(self, stage: str) -> None:
        """Open the splits that a stage ("fit", "validate", "test") needs and fit the transforms to the model."""
        module = self.trainer.lightning_module if self.trainer else None
        model_config = getattr(module, "input_config", None)
        if isinstance(model_config, InputConfig):
            self.input_config = replace(model_config, **self._given)  # type: ignore[arg-type]  # as above
        for split in _SPLITS.get(stage, ()):
            if split not in self._sources:
                self._sources[split] = self.open(split)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Augmented, shuffled; an incomplete last batch is dropped unless it is the only one."""
        return self._loader("train", Transform(self.input_config, self.augmentation))

    def val_dataloader(self) -> DataLoader[Sample]:
        """As the model is shown images in use, in order."""
        return self._loader("val", Transform(self.input_config))

    def test_dataloader(self) -> DataLoader[Sample]:
        """As `val_dataloader`."""
        return self._loader("test", Transform(self.input_config))

    def _any_source(self) -> Source:
        if not self._sources:
            raise DataError(f"{type(self).__name__}: call setup('fit') before asking for its classes")
        return next(iter(self._sources.values()))

    def _loader(self, split: Split, transform: Transform) -> DataLoader[Sample]:
        dataset = TransformedDataset(self._sources[split], transform)
        return DataLoader(
            dataset,
            self.batch_size,
            shuffle=split == "train",
            drop_last=split == "train" and len(dataset) > self.batch_size,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )


__all__ = ["Batch", "ImageDataModule", "Split"]
