"""Data that change under a run are noticed with one line that names the file; clocks that jump confuse nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from agcam.cli.explain import main as explain
from agcam.cli.train import main
from agcam.data.cub import CUB200
from agcam.data.shapes import CLASSES
from agcam.data.voc import VOC2012
from agcam.errors import DataError
from agcam.training.checkpoint_files import last_checkpoint
from benchmark.small_benchmarks import write_checkpoint
from command_lines import SMALL, TINY_MODEL
from faults import FAULT

ERROR = re.compile(r"^error: .*$", re.MULTILINE)


@pytest.fixture
def tree(cub_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cub_root, tmp_path / "CUB_200_2011"))


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def repaint(path: Path) -> None:
    with Image.open(path) as image:
        size = image.size
    Image.new("RGB", size, "red").save(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Path.unlink, "no such image"),
        (repaint, "has changed since the run started"),
        (touch, "has changed since the run started"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "not a readable image"),
    ],
    ids=["gone", "repainted", "touched", "truncated"],
)
def test_an_image_that_changes_after_it_was_looked_at_is_named(
    change: Callable[[Path], None], said: str, tree: Path
) -> None:
    source = CUB200(root=str(tree)).open("val")
    other, path = source[1], source.items[0].path
    change(path)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: {said}"):
        source[0]
    assert source[1].name == other.name


def test_a_mask_that_changes_is_named(voc_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(voc_root, tmp_path / "VOC2012"))
    source = VOC2012(root=str(root), classes=CLASSES).open("val")
    mask = source.items[0].mask
    touch(mask)
    with pytest.raises(DataError, match=f"^{re.escape(str(mask))}: has changed since the run started"):
        source[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fit_whose_image_disappears_ends_with_one_line(
    workers: int, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(item.path) for item in CUB200(root=str(tree)).open("train").items]
    monkeypatch.setenv(FAULT, f"unlink:3:{':'.join(paths)}")
    every = "{class_path: ModelCheckpoint, init_args: {every_n_train_steps: 1, save_last: true}}"
    arguments = [
        "fit",
        *SMALL,
        *TINY_MODEL,
        "--data=CUB200",
        f"--data.root={tree}",
        "--data.batch_size=2",
        f"--data.num_workers={workers}",
        "--explain=false",
        "--trainer.max_epochs=1",
        f"--trainer.callbacks=[{every}, {{class_path: faults.Fault}}]",
        f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {tmp_path}/runs, name: ''}}}}",
    ]
    assert main(arguments) == 2
    (line,) = ERROR.findall(capsys.readouterr().err)
    assert re.match(
        rf"error: {re.escape(str(tree))}/images/\S+\.jpg: no such image\. To resume: the same command", line
    )


def test_a_benchmark_is_not_finished_on_other_data(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = write_checkpoint(tmp_path / "model.ckpt")
    arguments = ["benchmark", "--device=cpu", f"--checkpoint={checkpoint}", f"--output={tmp_path}/output", "--quiet"]
    arguments += ["--methods=agcam", "--metrics=pointing_game", "--data=CUB200", f"--data.root={tree}"]
    assert explain(arguments) == 0
    assert explain(arguments) == 0
    repaint(CUB200(root=str(tree)).open("val").items[0].path)
    assert explain(arguments) == 2
    (line,) = ERROR.findall(capsys.readouterr().err)
    assert f"{tmp_path}/output holds a benchmark with other data; repeat that command to finish it" in line


@pytest.mark.parametrize("jump", [-(10**9), 10**9])
def test_a_clock_that_jumped_does_not_hide_the_last_run(jump: int, tmp_path: Path) -> None:
    for number in (2, 9, 10):
        path = tmp_path / f"version_{number}/checkpoints/last.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
        if number == 10:
            os.utime(path, (path.stat().st_mtime + jump,) * 2)
    assert last_checkpoint([tmp_path]) == tmp_path / "version_10/checkpoints/last.ckpt"
