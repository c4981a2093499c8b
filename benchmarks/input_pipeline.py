"""Measure loading: our transforms and torchvision's, with and without the cache, and the loader's switches."""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision
from PIL import Image, ImageOps
from timing import Timing, interleave
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2
from train_step import BareLoop, make_classifier

from agcam.data.batch import Batch, Example, Sample, collate
from agcam.data.cache import CachedDataset
from agcam.data.input_config import InputConfig
from agcam.data.source import FileDataset, Item, TransformedDataset
from agcam.data.transforms import Augmentation, Transform
from agcam.io.image_files import find_image_files
from agcam.io.images import read_image

CONFIG, AUGMENTATION = InputConfig(size=224), Augmentation()
Loader = Callable[[int], Sample]
Runs = dict[str, Callable[[], object]]


def transforms(options: argparse.Namespace) -> Iterator[tuple[str, int, dict[str, Timing]]]:
    """Time training transforms and collating on one core, from decoded images and from files."""
    with _pictures(options) as items, one_core():
        examples = [_example(item, read_image(item.path)) for item in items]
        ours, theirs = Transform(CONFIG, AUGMENTATION), _torchvision()
        label = torch.tensor(0)

        def from_array(index: int) -> Sample:
            return ours(examples[index], label, index)

        def from_file(index: int) -> Sample:
            return ours(replace(examples[index], image=read_image(items[index].path)), label, index)

        def v2_from_array(index: int) -> Sample:
            return theirs(v2.functional.to_image(examples[index].image), examples[index], index)

        def v2_from_pillow(index: int) -> Sample:
            with Image.open(items[index].path) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
            return theirs(v2.functional.to_image(upright), examples[index], index)

        def v2_from_file(index: int) -> Sample:
            mode = torchvision.io.ImageReadMode.RGB
            image = torchvision.io.decode_image(str(items[index].path), mode, apply_exif_orientation=True)
            return theirs(tv_tensors.Image(image), examples[index], index)

        cases: dict[str, dict[str, Loader]] = {
            "decoded images": {"torchvision v2": v2_from_array, "agcam": from_array},
            f"files, {_describe(items)}": {
                "torchvision v2, Pillow": v2_from_pillow,
                "torchvision v2, torchvision.io": v2_from_file,
                "agcam": from_file,
            },
        }
        if not hasattr(torchvision.io, "decode_image"):  # deprecated since 0.29
            del cases[f"files, {_describe(items)}"]["torchvision v2, torchvision.io"]
        for case, variants in cases.items():
            runs: Runs = {name: partial(_load, load, len(items)) for name, load in variants.items()}
            yield case, len(items), interleave(runs, options.rounds, "cpu")


def cache(options: argparse.Namespace) -> Iterator[tuple[str, int, dict[str, Timing]]]:
    """Time an epoch on one core without the cache, the one that builds it (on all cores), and the ones after it."""
    with _pictures(options) as items, one_core(), tempfile.TemporaryDirectory() as folder:
        source = FileDataset(items, ["something"], multilabel=False)
        fresh = itertools.count()

        def epoch(chosen: FileDataset | CachedDataset) -> None:
            dataset = TransformedDataset(chosen, Transform(CONFIG, AUGMENTATION))
            for _ in DataLoader(dataset, 32, collate_fn=collate):
                pass

        def first() -> None:
            epoch(CachedDataset(source, Path(folder) / str(next(fresh)), round(1.5 * CONFIG.size)))

        def later() -> None:
            epoch(
                CachedDataset(source, max(Path(folder).iterdir(), key=lambda p: int(p.name)), round(1.5 * CONFIG.size))
            )

        runs: Runs = {
            "no cache": partial(epoch, source),
            "first epoch, cache built": first,
            "later epochs, cached": later,
        }
        yield f"files, {_describe(items)}", len(items), interleave(runs, options.rounds, "cpu")


def switches(options: argparse.Namespace) -> Iterator[tuple[str, int, dict[str, Timing]]]:
    """Time two epochs of training from loader workers, with and without page-locked memory and persistent workers."""
    with _pictures(options) as items:
        source = FileDataset(items, ["something"], multilabel=False)
        loop = BareLoop(make_classifier(options.model), 1000, options.device, bf16=True)

        def two_epochs(pinned: bool, persistent: bool) -> None:
            dataset = TransformedDataset(source, Transform(CONFIG, AUGMENTATION))
            loader: Iterable[Batch] = DataLoader(
                dataset, 32, num_workers=4, collate_fn=collate, pin_memory=pinned, persistent_workers=persistent
            )
            for _ in range(2):
                loop.train(loader)

        runs: Runs = {
            f"{'pinned' if pinned else 'pageable'} memory, workers {'stay' if persistent else 'start again'}": partial(
                two_epochs, pinned, persistent
            )
            for pinned, persistent in itertools.product([False, True], repeat=2)
        }
        yield f"files, {_describe(items)}", 2 * len(items), interleave(runs, options.rounds, options.device)


@contextmanager
def one_core() -> Iterator[None]:
    """Work as a loader worker does: neither torch nor OpenCV starts threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(-1)


def _torchvision() -> Callable[[torch.Tensor, Example, int], Sample]:
    """Make the steps of `Transform` as torchvision's tutorials write them: uint8 until the end, bilinear."""
    a = AUGMENTATION
    compose = v2.Compose(
        [
            v2.RandomResizedCrop(CONFIG.size, scale=(a.scale, 1.0), antialias=True),
            v2.RandomHorizontalFlip(a.flip),
            v2.RandomApply([v2.ColorJitter(a.color, a.color, a.color, a.color / 10)], p=0.8),
            v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
            v2.Normalize(CONFIG.mean, CONFIG.std),
        ]
    )

    def transform(image: torch.Tensor, example: Example, index: int) -> Sample:
        given = {
            "image": image,
            "boxes": tv_tensors.BoundingBoxes(example.boxes, format="XYXY", canvas_size=image.shape[-2:]),
            "labels": torch.from_numpy(example.box_labels),
            "mask": tv_tensors.Mask(torch.from_numpy(example.mask)),
        }
        moved = compose(given)
        kept = {name: moved[name] for name in ("boxes", "labels")}  # torchvision 0.21 takes a mask for one of each box
        moved |= v2.SanitizeBoundingBoxes()(kept)
        plain = {name: value.as_subclass(torch.Tensor) for name, value in moved.items()}
        label = torch.tensor(0)
        return Sample(plain["image"], label, plain["boxes"], plain["labels"], plain["mask"], index, example.name)

    return transform


def _load(load: Loader, count: int) -> None:
    for start in range(0, count, 32):
        collate([load(index) for index in range(start, min(count, start + 32))])


@contextmanager
def _pictures(options: argparse.Namespace) -> Iterator[list[Item]]:
    """Yield photographs to load: those of --images, or drawn ones."""
    with tempfile.TemporaryDirectory() as folder:
        if options.images:
            paths = find_image_files(options.images).paths[: options.count]
        else:
            rng = np.random.default_rng(0)
            paths = [_draw(rng, Path(folder) / f"{i:04d}.jpg", *options.pixels) for i in range(options.count)]
        yield [_item(path) for path in paths]


def _draw(rng: np.random.Generator, path: Path, width: int, height: int) -> Path:
    """Draw soft noise, ellipses with hard edges, and fine grain: about as many bytes per pixel as a photograph."""
    coarse = rng.integers(0, 256, (height // 50, width // 50, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(8):
        center, axes = rng.integers(0, width, 2), rng.integers(5, max(6, height // 4), 2)
        color = rng.integers(0, 256, 3).tolist()
        cv2.ellipse(image, center.tolist(), axes.tolist(), float(rng.integers(180)), 0, 360, color, -1)
    grain = rng.normal(0, 6, (height, width, 1))
    Image.fromarray((image + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path


def _item(path: Path) -> Item:
    height, width = read_image(path).shape[:2]
    boxes = np.array([[0.2, 0.3, 0.6, 0.8], [0.5, 0.5, 0.9, 0.9]], np.float32) * [width, height, width, height]
    return Item(path, path.name, (0,), boxes.astype(np.float32), np.array([0, 0]))


def _example(item: Item, image: np.ndarray) -> Example:
    mask = np.zeros(image.shape[:2], np.uint8)
    assert item.boxes is not None
    left, top, right, bottom = item.boxes[0].astype(int)
    mask[top:bottom, left:right] = 1
    return Example(image, item.labels, item.boxes, item.box_labels, mask, item.name)


def _describe(items: Sequence[Item]) -> str:
    sizes = [read_image(item.path).shape for item in items]
    height, width = np.median(sizes, axis=0)[:2]
    kilobytes = np.mean([item.path.stat().st_size for item in items]) / 1000
    return f"{width:.0f}×{height:.0f} pixels, {kilobytes:.0f} kB"
