import logging
import multiprocessing
import os
import pickle
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from agcam.cli.train import main
from agcam.data import CUB200
from agcam.data.cache import CachedDataset
from agcam.data.shapes import ShapesDataset
from agcam.data.source import FileDataset, Item
from agcam.errors import DataError
from agcam.io.images import read_image, read_mask
from command_lines import SMALL, TINY_MODEL

SIZES = [(90, 60), (40, 100), (24, 24), (33, 71)]


class Counted(FileDataset):
    """Counts how often an image is decoded; slowly, if asked, so that two builders meet."""

    decoded = 0
    pause = 0.0

    def __getitem__(self, index: int):
        self.decoded += 1
        time.sleep(self.pause)
        return super().__getitem__(index)


def photographs(folder: Path) -> Counted:
    """Noise with a box and a mask each; the last without either."""
    rng = np.random.default_rng(0)
    items = []
    for number, (width, height) in enumerate(SIZES):
        path, mask = folder / f"{number}.png", folder / f"{number}_mask.png"
        if not path.exists():
            folder.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8)).save(path)
            values = np.zeros((height, width), np.uint8)
            values[: height // 2, : width // 2] = 1 + number % 2
            values[-1] = 255
            Image.fromarray(values).save(mask)
        bare = number == len(SIZES) - 1
        box = np.array([[0, 0, width // 2, height // 2], [1.5, 2, width, height]], np.float32)
        items.append(
            Item(
                path,
                path.name,
                labels=(number % 2,),
                boxes=None if bare else box,
                box_labels=None if bare else np.array([number % 2, 1]),
                mask=None if bare else mask,
            )
        )
    return Counted(items, ["a", "b"], multilabel=False, read_mask=lambda item: read_mask(item.mask))


def cached(folder: Path, size: int = 32) -> CachedDataset:
    return CachedDataset(photographs(folder / "photographs"), folder / "cache", size)


def stored(folder: Path) -> Path:
    (path,) = (folder / "cache").glob("*.images")
    return path


def rewrite(path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(path)
    os.utime(path, ns=(1, 1))  # another time than before, however fast the test is


def test_images_are_shrunk_by_area_to_their_shorter_side(tmp_path: Path) -> None:
    source = cached(tmp_path)
    expected = [(32, 48), (80, 32), (24, 24), (69, 32)]  # 24 is below the limit, so kept
    for index, (height, width) in enumerate(expected):
        original, found = source.source[index], source[index]
        assert found.image.shape == (height, width, 3)
        area = cv2.resize(original.image, found.image.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.array_equal(found.image, area)
        assert (found.labels, found.name) == (original.labels, original.name)
    assert np.array_equal(source[2].image, source.source[2].image)
    assert (source.class_names, source.multilabel, len(source)) == (["a", "b"], False, 4)


def test_boxes_and_masks_shrink_along(tmp_path: Path) -> None:
    source = cached(tmp_path)
    assert source[0].boxes.tolist() == [
        [0, 0, 24, 16],
        [pytest.approx(1.5 * 48 / 90), pytest.approx(2 * 32 / 60), 48, 32],
    ]
    assert source[0].box_labels.tolist() == [0, 1]
    for index in range(3):
        mask = source[index].mask
        height, width = source[index].image.shape[:2]
        assert mask.shape == (height, width)
        assert set(np.unique(mask)) <= {0, 1, 2, 255}  # nothing between two classes
        left, top, right, bottom = source[index].boxes[0]
        ys, xs = np.nonzero(mask == 1 + index % 2)
        found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(found - [left, top, right, bottom]).max() <= 0.5
    assert (source[3].boxes, source[3].box_labels, source[3].mask) == (None, None, None)
    rounded = cached(tmp_path, 7)  # 90×60 becomes 10×7: the proportions change a little
    for index in range(3):
        assert rounded[index].boxes[1, 2:].tolist() == [*rounded[index].image.shape[1::-1]]
    with pytest.raises(IndexError):
        source[4]


def test_what_is_read_can_be_changed_without_harm(tmp_path: Path) -> None:
    source = cached(tmp_path)
    before = source[0].image.copy()
    source[0].image[:] = 0
    source[0].mask[:] = 7
    assert np.array_equal(source[0].image, before)
    assert 7 not in source[0].mask


def test_the_second_opening_decodes_nothing(tmp_path: Path) -> None:
    first, second = cached(tmp_path), cached(tmp_path)
    assert first.source.decoded == 4
    assert [np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True)] == [True] * 4
    assert second.source.decoded == 0


def test_a_worker_that_is_sent_the_source_gets_no_images_with_it(tmp_path: Path) -> None:
    source = CachedDataset(FileDataset(photographs(tmp_path).items, ["a", "b"], False), tmp_path / "cache", 32)
    sent = pickle.dumps(source)
    assert len(sent) < 4000 < stored(tmp_path).stat().st_size
    assert np.array_equal(pickle.loads(sent)[1].image, source[1].image)


@pytest.mark.parametrize("file", ["1.png", "1_mask.png"])
def test_a_changed_file_is_noticed_and_said(tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture) -> None:
    cached(tmp_path)
    path = tmp_path / "photographs" / file
    changed = np.full_like(read_mask(path), 2) if "mask" in file else np.full_like(read_image(path), 9)
    rewrite(path, changed)
    again = cached(tmp_path)
    assert again.source.decoded == 4
    found = again[1].mask if "mask" in file else again[1].image
    assert np.unique(found).tolist() == [2 if "mask" in file else 9]
    assert "a file has changed; building it again" in caplog.text
    assert cached(tmp_path).source.decoded == 0


def test_other_sizes_and_other_images_live_beside_each_other(tmp_path: Path) -> None:
    large, small = cached(tmp_path, 32), cached(tmp_path, 16)
    assert (large[0].image.shape, small[0].image.shape) == ((32, 48, 3), (16, 24, 3))
    some = FileDataset(large.source.items[:2], ["a", "b"], False)
    assert len(CachedDataset(some, tmp_path / "cache", 32)) == 2
    assert len(list((tmp_path / "cache").glob("*.images"))) == 3
    assert cached(tmp_path, 32).source.decoded == cached(tmp_path, 16).source.decoded == 0


def build_slowly(folder: Path, start: object, results: object) -> None:
    source = photographs(folder / "photographs")
    source.pause = 0.2
    start.wait()
    found = CachedDataset(source, folder / "cache", 32)
    results.put((source.decoded, int(found[0].image.sum())))


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path: Path) -> None:
    photographs(tmp_path / "photographs")
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(2), context.Queue()
    both = [context.Process(target=build_slowly, args=(tmp_path, start, results)) for _ in range(2)]
    for process in both:
        process.start()
    found = sorted(results.get(timeout=120) for _ in both)
    for process in both:
        process.join()
    assert [decoded for decoded, _ in found] == [0, 4]
    assert found[0][1] == found[1][1] == int(cached(tmp_path)[0].image.sum())


@pytest.mark.parametrize("keep", [0, 20, 64, 2000, -1])
def test_a_truncated_cache_is_built_again(tmp_path: Path, keep: int, caplog: pytest.LogCaptureFixture) -> None:
    expected = cached(tmp_path)[3].image
    path = stored(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    again = cached(tmp_path)
    assert again.source.decoded == 4
    assert np.array_equal(again[3].image, expected)
    assert "building it again" in caplog.text


def test_a_foreign_file_under_its_name_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cached(tmp_path)
    stored(tmp_path).write_bytes(b"something else altogether, long enough for a header, or so it seems ......")
    assert cached(tmp_path).source.decoded == 4
    assert "another format; building it again" in caplog.text


def test_what_a_killed_builder_left_is_in_nobodys_way(tmp_path: Path) -> None:
    cached(tmp_path)
    path = stored(tmp_path)
    path.rename(path.with_suffix(".part"))  # complete but for its name
    path.with_suffix(".part").write_bytes(b"half")
    assert cached(tmp_path).source.decoded == 4
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_bad_image_stops_the_building_and_leaves_nothing(tmp_path: Path) -> None:
    source = photographs(tmp_path / "photographs")
    path = source.items[2].path
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"2\.png: not a readable image"):
        CachedDataset(source, tmp_path / "cache", 32)
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".lock"]
    path.unlink()
    with pytest.raises(DataError, match=r"2\.png: cannot be read"):
        CachedDataset(source, tmp_path / "cache", 32)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    source = photographs(tmp_path / "photographs")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/cache: the cache of images cannot be written .*--data\.cache"):
        CachedDataset(source, tmp_path / "file" / "cache", 32)


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_too_small_is_said_and_left_clean(tmp_path: Path) -> None:
    source = photographs(tmp_path / "photographs")
    with full_disk(5000), pytest.raises(DataError, match=r"/cache: the cache .* free some space"):
        CachedDataset(source, tmp_path / "cache", 32)
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".lock"]
    assert len(CachedDataset(source, tmp_path / "cache", 32)) == 4


def test_a_complete_cache_needs_no_writing(tmp_path: Path) -> None:
    cached(tmp_path)
    next((tmp_path / "cache").glob("*.lock")).unlink()
    assert cached(tmp_path).source.decoded == 0
    assert not list((tmp_path / "cache").glob("*.lock"))


def test_building_says_how_large_it_became(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "agcam.data.cache"):
        cached(tmp_path)
    assert "4 images, 0 MB; the folder holds 0 MB" in caplog.text
    assert "4 of 4 images" in capsys.readouterr().err


def test_what_reads_no_files_cannot_be_cached(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ShapesDataset reads no image files"):
        CachedDataset(ShapesDataset(2, 32, "train"), tmp_path, 32)
    with pytest.raises(DataError, match="cache_size is 0"):
        CachedDataset(photographs(tmp_path / "photographs"), tmp_path, 0)


def test_a_data_module_caches_every_split_that_it_opens(cub_root: Path, tmp_path: Path) -> None:
    data = CUB200(root=str(cub_root), image_size=16, batch_size=4, num_workers=2, cache=str(tmp_path / "cache"))
    data.setup("fit")
    data.setup("test")  # the validation split again: one file serves both
    assert len(list((tmp_path / "cache").glob("*.images"))) == 2
    assert data._sources["train"][0].image.shape == (24, 24, 3)
    plain = CUB200(root=str(cub_root), image_size=16, batch_size=4, num_workers=0)
    plain.setup("fit")
    for ours, theirs in zip(data.val_dataloader(), plain.val_dataloader(), strict=True):
        assert ours.name == theirs.name
        assert all(np.allclose(a, b, atol=1e-3) for a, b in zip(ours.boxes, theirs.boxes, strict=True))
        assert (ours.image - theirs.image).abs().mean() < 0.1  # averaged twice, 48 to 24 to 16 pixels
        assert (ours.mask == theirs.mask).float().mean() > 0.95


def test_a_run_from_the_command_line_leaves_a_cache_for_the_next(cub_root: Path, tmp_path: Path) -> None:
    args = [
        "fit",
        "--data=CUB200",
        f"--data.root={cub_root}",
        f"--data.cache={tmp_path / 'cache'}",
        *SMALL,
        *TINY_MODEL,
    ]
    args += ["--data.num_workers=0", "--trainer.max_epochs=1", f"--trainer.default_root_dir={tmp_path}"]
    args += ["--data.cache_size=40", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    args += ["--trainer.logger=false", "--trainer.enable_checkpointing=false"]
    assert main(args) == 0
    files = sorted((tmp_path / "cache").glob("*.images"))
    assert len(files) == 2
    before = [path.stat().st_mtime_ns for path in files]
    assert main(args) == 0
    assert [path.stat().st_mtime_ns for path in files] == before
