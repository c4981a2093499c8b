"""What the data modules share: splits, loaders, and transforms that fit the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from agcam.data.batch import Batch, Sample, collate
from agcam.data.cache import CachedDataset
from agcam.data.cores import usable_cores
from agcam.data.input_config import InputConfig, Interpolation, Resize, Triple
from agcam.data.labels import read_labels, warn_of_missing_classes
from agcam.data.marked import MarkedDataset
from agcam.data.samplers import BalancedSampler, ResumableSampler, SeededDataset, TrainingLoader
from agcam.data.source import ExampleDataset, TransformedDataset, warn_of_shared
from agcam.data.transforms import Augmentation, Transform
from agcam.errors import DataError, InputError

Split = Literal["train", "val", "test"]
_SPLITS: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}


class ImageDataModule(LightningDataModule, ABC):
    """Images with labels, boxes and masks; a data set is a subclass that opens an `ExampleDataset` for each split.

    Args:
        batch_size: images in a batch, on each process.
        num_workers: loader processes; None takes one for each core that this process may use, at most 8.
        resize: what evaluation does with an image: "squash" it to a square, or "center_crop" it.
        augmentation: what training does with an image.
        balanced: draw training images so that each class is shown equally often; where an image has several, its
            rarest decides.
        image_size: side in pixels; None takes the model's.
        mean: per channel, of images in [0, 1]; None takes the model's.
        std: per channel; None takes the model's.
        interpolation: None takes the model's.
        cache: folder for decoded, shrunk images, made once so that every later epoch and run loads faster; None for
            none. Training uses it; `agcam images` and `agcam benchmark` read the images themselves.
        cache_size: the shorter side of a cached image in pixels, at most; None takes 1.5 × the model's, 0.5 MB for a
            3:2 photograph at 224. A crop of a share s of a square image keeps its pixels from model size / √s upwards:
            by default the smallest (0.35) are enlarged by 13 %, at 1.7 × none, for 30 % more disk.
        shortcut: share of the training and validation images with a small mark in a corner that gives their class
            away; the others have the mark of another class. In test images marks and classes are independent: what a
            model loses there is what it had learned of the marks. 0 for no marks. Files are not changed: marks are
            painted when images are read, before they are augmented, so an `augmentation.scale` below 1 can crop
            them off, and `augmentation.color` moves their color.
        seed: of the marks.
    """

    def __init__(
        self,
        batch_size: int = 32,
        num_workers: int | None = None,
        resize: Resize = "squash",
        augmentation: Augmentation = Augmentation(),  # noqa: B008  # frozen, and jsonargparse shows it in --help
        balanced: bool = False,
        image_size: int | None = None,
        mean: Triple | None = None,
        std: Triple | None = None,
        interpolation: Interpolation | None = None,
        cache: str | None = None,
        cache_size: int | None = None,
        shortcut: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = min(8, usable_cores()) if num_workers is None else num_workers
        self.augmentation = augmentation
        self.balanced = balanced
        overrides = {"size": image_size, "mean": mean, "std": std, "interpolation": interpolation, "resize": resize}
        self._overrides = {name: value for name, value in overrides.items() if value is not None}
        self.input_config = replace(InputConfig(), **self._overrides)  # type: ignore[arg-type]  # values fit by construction
        self.cache = None if cache is None else Path(cache).expanduser()
        self.cache_size = cache_size
        self.shortcut = shortcut
        self.seed = seed
        self._sources: dict[Split, ExampleDataset] = {}
        self._checked: dict[Split, ExampleDataset] = {}

    @abstractmethod
    def open(self, split: Split) -> ExampleDataset:
        """Open a split.

        Raises:
            DataError: for anything missing or contradictory, naming the file.
        """

    @property
    def title(self) -> str:
        """What people call the data."""
        return type(self).__name__

    def describe(self, split: Split) -> str:
        """Name a split for tables and reports, with the marks planted in it."""
        marks = "marks of any class" if split == "test" else f"{100 * self.shortcut:g} % marked by class"
        return f"{self.title} {split}, {marks}" if self.shortcut else f"{self.title} {split}"

    @property
    def class_names(self) -> list[str]:
        """Names by class index; known after `check` or `setup`."""
        return self._any_source().class_names

    @property
    def multilabel(self) -> bool:
        """Whether an image may show several classes; known after `check` or `setup`."""
        return self._any_source().multilabel

    def check(self, stage: str, model_config: InputConfig) -> None:
        """Fetch the data if that is asked for, and open the splits of a stage ahead of `setup`, which takes them over.

        Commands call it before they make run folders and start trackers, on the first process.

        Args:
            stage: "fit", "validate" or "test".
            model_config: the model's input, which generated images depend on.

        Raises:
            DataError: as `open`.
        """
        self.prepare_data()
        self.fit_input(model_config)
        for split in _SPLITS.get(stage, ()):
            self._checked[split] = self.open(split)
            self.plant(self._checked[split], split)  # only to refuse: the cache goes between

    def plant(self, source: ExampleDataset, split: Split) -> ExampleDataset:
        """Plant the marks of `shortcut` in what `open` returned, or a cache of it; without them return it as it is.

        Raises:
            InputError: for data that cannot be marked, or marks that evaluation would cut off.
        """
        if not self.shortcut:
            return source
        if self.input_config.resize != "squash":
            raise InputError(
                f"data.shortcut marks the corners of photographs, and data.resize {self.input_config.resize} cuts them "
                "off: leave one of them out"
            )
        return MarkedDataset(source, split, self.shortcut, self.seed)

    def setup(self, stage: str) -> None:
        """Open the splits that a stage ("fit", "validate", "test") needs and fit the transforms to the model."""
        if self.cache is None and self.cache_size is not None:  # not when it is made: jsonargparse buries messages
            raise DataError(f"data.cache_size {self.cache_size} has no effect without data.cache; give both or neither")
        module = self.trainer.lightning_module if self.trainer else None
        model_config = getattr(module, "input_config", None)
        if isinstance(model_config, InputConfig):
            before = self.input_config
            self.fit_input(model_config)
            if self.input_config != before:  # generated images depend on it
                self._checked.clear()
        for split in _SPLITS.get(stage, ()):
            if split not in self._sources:
                checked = self._checked.pop(split, None)
                source = self.open(split) if checked is None else checked
                if self.cache is not None:
                    size = round(1.5 * self.input_config.size) if self.cache_size is None else self.cache_size
                    source = CachedDataset(source, self.cache, size)
                source = self.plant(source, split)
                if split == "train":
                    warn_of_missing_classes(source)
                self._sources[split] = source
        if stage == "fit":
            warn_of_shared(self._sources["train"], self._sources["val"])

    def fit_input(self, model_config: InputConfig) -> None:
        """Adopt the model's input configuration, except for values given to this data module."""
        self.input_config = replace(model_config, **self._overrides)  # type: ignore[arg-type]  # as above

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must have alike; Lightning saves it in checkpoints."""
        return {"shortcut": self.shortcut} | ({"seed": self.seed} if self.shortcut else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to resume training on images with other marks.

        Raises:
            InputError: naming the option, with both values.
        """
        if self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return  # how a model does on other marks is what `agcam test` may ask
        for name, value in self.state_dict().items():
            if (before := state_dict.get(name, value)) != value:
                raise InputError(
                    f"--data.{name} is {value}, the checkpoint's run has {before}, and resumed it would see other "
                    "images; give it the same, or start a new run from its weights (--model.weights)"
                )

    def train_dataloader(self) -> DataLoader[Sample]:
        """Load shuffled, augmented images; an incomplete last batch is dropped unless it is the only one."""
        return self._loader("train", Transform(self.input_config, self.augmentation))

    def val_dataloader(self) -> DataLoader[Sample]:
        """Load images in order, without augmentation."""
        return self._loader("val", Transform(self.input_config))

    def test_dataloader(self) -> DataLoader[Sample]:
        """As `val_dataloader`."""
        return self._loader("test", Transform(self.input_config))

    def _any_source(self) -> ExampleDataset:
        opened = self._sources or self._checked
        if not opened:
            raise DataError(f"{type(self).__name__}: call setup('fit') before asking for its classes")
        return next(iter(opened.values()))

    def _loader(self, split: Split, transform: Transform) -> DataLoader[Sample]:
        dataset = TransformedDataset(self._sources[split], transform)
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if len(dataset) < world_size:
            raise DataError(
                f"{split}: {len(dataset)} images for {world_size} processes; each needs one, so start at most "
                f"{len(dataset)} (--trainer.devices, --trainer.num_nodes)"
            )
        options: dict[str, Any] = {
            "num_workers": self.num_workers,
            "collate_fn": collate,
            "pin_memory": torch.cuda.is_available(),
            "persistent_workers": self.num_workers > 0,
        }
        if split != "train":
            return DataLoader(dataset, self.batch_size, **options)
        drop = len(dataset) >= self.batch_size * world_size
        order = (
            BalancedSampler(dataset, read_labels(self._sources[split]), rank, world_size, drop_last=drop)
            if self.balanced
            else ResumableSampler(dataset, rank, world_size, drop_last=drop)
        )
        return TrainingLoader(SeededDataset(dataset), self.batch_size, sampler=order, drop_last=drop, **options)


__all__ = ["Batch", "ImageDataModule", "Split"]
