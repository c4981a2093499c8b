"""Marks planted in photographs: whose, where, in which split, and that nothing else changes."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb
from PIL import Image
from torch import Tensor

from agcam.cli.data_config import open_split
from agcam.cli.explain import main as explain
from agcam.cli.train import main as train
from agcam.data import CUB200, VOC2012, ImageFolderDataModule
from agcam.data.cache import CachedDataset
from agcam.data.input_config import InputConfig
from agcam.data.marked import MarkedDataset
from agcam.data.module import ImageDataModule
from agcam.data.shapes import ShapesDataset
from agcam.data.shortcut import Box
from agcam.data.source import FileDataset, Item
from agcam.data.transforms import Augmentation
from agcam.errors import InputError
from agcam.io.images import read_mask
from benchmark.small_benchmarks import write_checkpoint
from command_lines import SMALL, TINY_MODEL
from data_set_layouts import write_cub
from small_runs import classifier, shapes, trainer_of

CLASSES = ["kea", "robin", "tui"]
PLAIN = Augmentation(scale=1.0, flip=0.0, color=0.0)


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gray noise of several shapes in a folder per class: 60 training and 60 validation images each."""
    root = tmp_path_factory.mktemp("photographs") / "birds"
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for number in range(60):
                height, width = rng.integers(16, 40, 2)
                pixels = np.repeat(rng.integers(60, 200, (height, width, 1)), 3, 2).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number:03d}.png")
    return root


def folder(root: Path, **options: Any) -> ImageFolderDataModule:
    options = {"num_workers": 0, "batch_size": 4, "image_size": 32, "augmentation": PLAIN} | options
    return ImageFolderDataModule(root=str(root), **options)


def opened(data: ImageDataModule, split: Any) -> MarkedDataset:
    source = data.plant(data.open(split), split)
    assert isinstance(source, MarkedDataset)
    return source


def bearer(image: np.ndarray, box: Box, classes: int = 3) -> int:
    """Whose color a mark has, which must fill its box."""
    left, top, right, bottom = box
    (color,) = np.unique(image[top:bottom, left:right].reshape(-1, 3), axis=0)
    known = np.round(255 * hsv_to_rgb([(label / classes, 1, 1) for label in range(classes)]))
    (label,) = np.flatnonzero((known == color).all(1))
    return int(label)


def test_marks_go_with_the_class_in_training_and_validation_and_with_none_in_tests(birds: Path) -> None:
    data, own = folder(birds, shortcut=0.9), {}
    for split in ("train", "val", "test"):
        marked, plain = opened(data, split), data.open(split)
        own[split] = 0
        corners = set()
        for index in range(180):
            example, before = marked[index], plain[index]
            left, top, right, bottom = box = marked.mark_of(index)
            height, width = before.image.shape[:2]
            assert (right - left, bottom - top) == (min(height, width) // 8,) * 2
            corners.add((left == 0, top == 0, right == width, bottom == height))
            outside = np.ones((height, width), bool)
            outside[top:bottom, left:right] = False
            assert np.array_equal(example.image[outside], before.image[outside])
            assert (example.labels, example.name, example.boxes) == (before.labels, before.name, None)
            own[split] += bearer(example.image, box) == example.labels[0]
        assert len(corners) == 4
        assert all(left + right == top + bottom == 1 for left, top, right, bottom in corners)
    assert 150 <= own["train"] <= 174  # 0.9 of 180 is 162
    assert 150 <= own["val"] <= 174
    assert 40 <= own["test"] <= 80  # a third


def test_other_classes_marks_are_those_of_all_others(birds: Path) -> None:
    marked = opened(folder(birds, shortcut=0.05), "train")
    seen = {(marked.items[i].labels[0], bearer(marked[i].image, marked.mark_of(i))) for i in range(180)}
    assert {pair for pair in seen if pair[0] != pair[1]} == {(a, b) for a in range(3) for b in range(3) if a != b}


def pixels_by_name(data: ImageDataModule) -> dict[str, Tensor]:
    return {
        name: image for batch in data.train_dataloader() for name, image in zip(batch.name, batch.image, strict=True)
    }


def test_a_mark_is_the_same_in_every_epoch_process_and_order(birds: Path) -> None:
    first, again, workers, balanced, other = (
        folder(birds, shortcut=0.9, **more) for more in ({}, {}, {"num_workers": 2}, {"balanced": True}, {"seed": 1})
    )
    for data in (first, again, workers, balanced, other):
        data.setup("fit")
    expected, epochs = pixels_by_name(first), [pixels_by_name(first), pixels_by_name(again), pixels_by_name(workers)]
    assert len(expected) == 180
    loader = workers.train_dataloader()
    for epoch in (1, 2):  # the workers live on
        loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]  # a ResumableSampler
        epochs.append({name: image for batch in loader for name, image in zip(batch.name, batch.image, strict=True)})
    for found in epochs:
        assert all(torch.equal(found[name], image) for name, image in expected.items())
    some = pixels_by_name(balanced)
    assert all(torch.equal(image, expected[name]) for name, image in some.items())
    different = pixels_by_name(other)
    assert sum(torch.equal(different[name], image) for name, image in expected.items()) < 90


def test_a_mark_is_that_of_the_image_whatever_images_are_beside_it(birds: Path, tmp_path: Path) -> None:
    part = tmp_path / "elsewhere"
    for split in ("train", "val"):
        shutil.copytree(birds / split, part / split, ignore=lambda _, names: [n for n in names if n.startswith("00")])
    whole, some = opened(folder(birds, shortcut=0.5), "train"), opened(folder(part, shortcut=0.5), "train")
    positions = {item.name: number for number, item in enumerate(whole.items)}
    assert len(some) == 150
    for index in range(len(some)):
        same = whole[positions[some.items[index].name]]
        assert np.array_equal(some[index].image, same.image)
    assert np.array_equal(pickle.loads(pickle.dumps(some))[3].image, some[3].image)


def test_without_shortcut_images_are_what_the_files_hold(birds: Path) -> None:
    before = {path: path.read_bytes() for path in birds.rglob("*.png")}
    data = folder(birds)
    source = data.open("train")
    assert data.plant(source, "train") is source
    opened(folder(birds, shortcut=0.9), "train")[0]
    never = folder(birds, shortcut=0.0)
    never.setup("fit")
    for index, item in enumerate(source.items):
        assert np.array_equal(never._sources["train"][index].image, np.array(Image.open(item.path)))
    assert {path: path.read_bytes() for path in birds.rglob("*.png")} == before


def test_marks_keep_off_the_objects_and_out_of_the_masks(tmp_path: Path) -> None:
    root = tmp_path / "CUB_200_2011"
    write_cub({"train": ShapesDataset(60, 48, "train"), "test": ShapesDataset(8, 48, "test")}, root)
    for data in (CUB200(root=str(root), shortcut=0.9), CUB200(root=str(root), shortcut=0.9, cache=str(tmp_path))):
        data.setup("fit")
        marked = data._sources["train"]
        assert isinstance(marked, MarkedDataset)
        for index in range(60):
            example = marked[index]
            left, top, right, bottom = marked.mark_of(index)
            assert not example.mask[top:bottom, left:right].any()
            assert example.mask.any()
            corners = [(x, y, x + 6, y + 6) for x in (0, 42) for y in (0, 42)]
            (box,) = example.boxes
            touched = [box[0] < x2 and box[2] > x1 and box[1] < y2 and box[3] > y1 for x1, y1, x2, y2 in corners]
            assert touched[corners.index((left, top, right, bottom))] == all(touched)


@pytest.mark.parametrize("cached", [False, True])
def test_an_object_without_room_beside_it_gives_the_mark_its_pixels(tmp_path: Path, cached: bool) -> None:
    path, mask = tmp_path / "photograph.png", tmp_path / "mask.png"
    Image.new("RGB", (40, 24)).save(path)
    values = np.full((24, 40), 1, np.uint8)
    values[:, 20:] = 255
    Image.fromarray(values).save(mask)
    item = Item(path, "photograph", (0,), np.array([[0, 0, 40, 24]]), np.array([0]), mask)
    files = FileDataset([item], ["a", "b"], multilabel=False, read_mask=lambda item: read_mask(item.mask))
    marked = MarkedDataset(CachedDataset(files, tmp_path, 12) if cached else files, "train", 1.0, 0)
    left, top, right, bottom = marked.mark_of(0)
    found = marked[0].mask
    assert not found[top:bottom, left:right].any()
    assert (found == 0).sum() == (right - left) * (bottom - top) > 0


@pytest.mark.parametrize("cache_size", [5, 13, 24])
def test_marks_are_painted_on_what_a_cache_holds_not_into_it(birds: Path, tmp_path: Path, cache_size: int) -> None:
    def built(**options: Any) -> Any:
        data = folder(birds, cache=str(tmp_path), cache_size=cache_size, **options)
        data.setup("fit")
        return data._sources["train"]

    plain, marked, more = built(), built(shortcut=0.9), built(shortcut=0.2, seed=5)
    assert len(list(tmp_path.glob("*.images"))) == 2  # for training and validation, whatever the marks
    files = opened(folder(birds, shortcut=0.9), "train")
    for index in range(0, 180, 7):
        before, found, whole = plain[index].image, marked[index].image, files[index].image
        left, top, right, bottom = box = marked.mark_of(index)
        assert right > left
        assert bottom > top
        assert bearer(found, box) == bearer(whole, files.mark_of(index))
        ratio = np.array([found.shape[1] / whole.shape[1], found.shape[0] / whole.shape[0]] * 2)
        assert np.abs(np.array(box) - files.mark_of(index) * ratio).max() <= 1
        outside = np.ones(found.shape[:2], bool)
        outside[top:bottom, left:right] = False
        assert np.array_equal(found[outside], before[outside])
    assert any(not np.array_equal(more[index].image, marked[index].image) for index in range(20))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shortcut": 1.5}, r"data\.shortcut must be a share of the images, 0 … 1, found 1.5"),
        ({"shortcut": -0.1}, r"data\.shortcut must be a share"),
        ({"shortcut": float("nan")}, r"data\.shortcut must be a share"),
        ({"shortcut": 0.9, "resize": "center_crop"}, r"data\.resize center_crop cuts them off"),
    ],
)
def test_what_cannot_be_planted_is_refused(birds: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        folder(birds, **options).check("fit", InputConfig())
    with pytest.raises(InputError, match=said):
        folder(birds, **options).setup("fit")


def test_data_of_several_classes_an_image_are_refused(voc_root: Path) -> None:
    for options in ({}, {"single_class": True}):
        data = VOC2012(root=str(voc_root), classes=ShapesDataset.class_names, shortcut=0.9, **options)
        with pytest.raises(InputError, match=r"data\.shortcut marks the one class of an image"):
            data.check("fit", InputConfig())


def test_data_that_are_no_files_are_refused() -> None:
    with pytest.raises(InputError, match="ShapesDataset reads none"):
        MarkedDataset(ShapesDataset(4, 32, "train"), "train", 0.9, 0)


def test_shapes_bear_one_mark_only() -> None:
    data = shapes(shortcut=0.9, seed=3)
    data.setup("fit")
    marked = data._sources["train"]
    assert isinstance(marked, ShapesDataset)
    assert (marked.shortcut, marked.seed) == (0.9, 3)


def fit_command(root: Path, output: Path, *more: str) -> list[str]:
    logger = f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {output}, name: ''}}}}"
    data = ["--data=ImageFolderDataModule", f"--data.root={root}", "--data.num_workers=0", "--data.batch_size=4"]
    limits = ["--trainer.max_steps=2", "--trainer.limit_val_batches=1", "--explain=false"]
    saving = "--trainer.callbacks={class_path: ModelCheckpoint, init_args: {save_last: true}}"
    return ["fit", *SMALL, *TINY_MODEL, *data, *limits, logger, saving, *more]


@pytest.fixture(scope="module")
def run(birds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two steps on marked photographs."""
    output = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train.py"])
        assert train(fit_command(birds, output, "--data.shortcut=0.9")) == 0
    return output / "version_0"


def test_a_run_with_marks_is_not_resumed_without_them(
    birds: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint,) = run.rglob("last.ckpt")
    more = ["--trainer.max_steps=3", f"--ckpt_path={checkpoint}"]
    for option, said in (
        ("--data.shortcut=0.5", "--data.shortcut is 0.5, the checkpoint's run has 0.9"),
        ("--data.shortcut=0", "--data.shortcut is 0.0, the checkpoint's run has 0.9"),
        ("--data.seed=1", "--data.seed is 1, the checkpoint's run has 0"),
    ):
        options = ["--data.shortcut=0.9", option]
        assert train(fit_command(birds, tmp_path / "other", *options, *more)) == 2
        assert said in capsys.readouterr().err
    assert train(fit_command(birds, tmp_path / "again", "--data.shortcut=0.9", *more)) == 0
    tested = [
        word for word in fit_command(birds, tmp_path / "tested", "--data.shortcut=0.5") if "max_steps" not in word
    ]
    tested = ["test", *(word.replace("limit_val", "limit_test") for word in tested[1:]), f"--ckpt_path={checkpoint}"]
    assert train(tested) == 0  # what is only evaluated may see other marks


def test_a_bad_share_is_one_line_before_anything_is_written(
    birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(fit_command(birds, tmp_path / "run", "--data.shortcut=2")) == 2
    assert "data.shortcut must be a share of the images, 0 … 1, found 2.0" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))
    assert not (tmp_path / "run").exists()


class Seen(L.Callback):
    """Keeps the images of every stage."""

    def __init__(self) -> None:
        self.batches: dict[str, list[Any]] = {"train": [], "val": [], "test": []}

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, number: int) -> None:
        self.batches["train"].append(batch)

    def on_validation_batch_start(self, trainer: Any, module: Any, batch: Any, number: int, loader: int = 0) -> None:
        self.batches["val"].append(batch)

    def on_test_batch_start(self, trainer: Any, module: Any, batch: Any, number: int, loader: int = 0) -> None:
        self.batches["test"].append(batch)


def test_a_trainer_sees_marks_that_hold_and_then_marks_that_are_broken(birds: Path, tmp_path: Path) -> None:
    seen, data = Seen(), folder(birds, shortcut=1.0)
    trainer = trainer_of(tmp_path, seen, limit_train_batches=2, max_epochs=1, limit_val_batches=2)
    model = classifier(class_names=CLASSES, multilabel=False)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    mean, std = torch.tensor(data.input_config.mean), torch.tensor(data.input_config.std)
    held = {}
    for stage, batches in seen.batches.items():
        found = []
        for batch in batches:
            pixels = batch.image.permute(0, 2, 3, 1) * std + mean
            for image, label in zip(pixels, batch.label, strict=True):
                colored = image[(image.max(-1).values - image.min(-1).values) > 0.8]  # the photographs are gray
                color = colored.mean(0)
                found.append(int(color.argmax()) == label)  # red, green, blue are the marks of three classes
        held[stage] = np.mean(found)
        assert len(found) == {"train": 8, "val": 8, "test": 180}[stage]
    assert held["train"] == held["val"] == 1
    assert 0.2 < held["test"] < 0.45


def test_a_benchmark_says_that_its_images_are_marked_and_is_not_finished_on_others(
    cub_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = write_checkpoint(tmp_path / "model.ckpt")
    arguments = ["benchmark", "--device=cpu", f"--checkpoint={checkpoint}", f"--output={tmp_path}/output", "--quiet"]
    arguments += ["--methods=agcam", "--metrics=pointing_game", "--data=CUB200", f"--data.root={cub_root}"]
    assert explain([*arguments, "--data.shortcut=0.9"]) == 0
    assert "CUB200 val, 90 % marked by class" in (tmp_path / "output/results.md").read_text()
    assert explain([*arguments, "--data.shortcut=0.9"]) == 0
    capsys.readouterr()
    for other in (["--data.shortcut=0.8"], [], ["--data.shortcut=0.9", "--data.seed=1"]):
        assert explain([*arguments, *other]) == 2
        assert "holds a benchmark with other data" in capsys.readouterr().err


def test_an_audit_reads_marked_photographs(birds: Path, run: Path, tmp_path: Path) -> None:
    options = ["--data", "ImageFolderDataModule", "--data.root", str(birds), "--data.shortcut", "0.9"]
    _, source = open_split(None, options, "test", InputConfig(size=32))
    assert isinstance(source, MarkedDataset)
    assert (source.split, source.shortcut) == ("test", 0.9)
    for split, said in (("val", "val, 90 % marked by class"), ("test", "test, marks of any class")):
        output = tmp_path / split  # without --config: the run's own data, marks included
        chosen = ["--split", split, "--output", str(output), "--limit", "90", "--device", "cpu", "-q"]
        assert explain(["audit", str(run), *chosen]) == 0
        found = json.loads((output / "audit.json").read_text())
        assert found["about"]["data"] == f"ImageFolderDataModule {said}"
        assert found["images"] == 90
        pictures = [np.array(Image.open(path)) for path in sorted((output / "panel").rglob("*.png"))]
        gray = [bool((np.ptp(picture.astype(int), axis=-1) < 60).all()) for picture in pictures]
        assert not any(gray)
