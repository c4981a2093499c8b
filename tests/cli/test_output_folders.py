"""Output folders in use, full and read-only: one line, nothing mixed, nothing half-written, what was there intact."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from agcam.cli.explain import main as explain
from agcam.cli.train import main
from agcam.tracking import open_trackers
from benchmark.small_benchmarks import write_checkpoint
from faults import FAULT
from processes import Started, another_holds, start
from resumable_runs import command, same, weights
from whole_files import assert_whole, rows

MAY_MOUNT = os.geteuid() == 0 and os.environ.get("AGCAM_TEST_MOUNT") != "no"
ERROR = re.compile(r"^error: .*$", re.MULTILINE)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("ckpt") / "model.ckpt")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (40, 40), "red").save(path)
    return path


def images(checkpoint: Path, photo: Path, output: Path) -> list[str]:
    return ["images", "--device=cpu", f"--checkpoint={checkpoint}", f"--input={photo}", f"--output={output}"]


def benchmark(checkpoint: Path, output: Path) -> list[str]:
    model = ["benchmark", "--device=cpu", f"--checkpoint={checkpoint}", f"--output={output}"]
    return [*model, "--methods=agcam", "--metrics=pointing_game", "--save-heatmaps", "--data=Shapes", "--quiet"]


def one_line(process: Started, status: int = 2) -> str:
    assert process.wait() == status, process.printed
    (line,) = ERROR.findall(process.printed)
    assert "Traceback" not in process.printed
    return str(line)


# in use


def test_two_fits_that_start_together_get_a_folder_each(tmp_path: Path) -> None:
    both = [start(command(tmp_path, workers=0), tmp_path / f"printed_{number}") for number in range(2)]
    assert [run.wait() for run in both] == [0, 0], both[0].printed + both[1].printed
    one, other = (tmp_path / name for name in ("version_0", "version_1"))
    assert same(weights(one), weights(other))
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["version_0", "version_1"]


def _claim(folder: Path, together: Any, found: Any) -> None:
    for _ in range(20):
        logger = CSVLogger(folder, "")
        together.wait()
        open_trackers([logger])
        found.put(logger.version)


def test_runs_that_look_for_a_folder_at_the_same_moment_find_different_ones(tmp_path: Path) -> None:
    forks = multiprocessing.get_context("fork")
    together, found = forks.Barrier(4), forks.Queue()
    runs = [forks.Process(target=_claim, args=(tmp_path, together, found)) for _ in range(4)]
    for run in runs:
        run.start()
    versions = [found.get(timeout=60) for _ in range(80)]
    for run in runs:
        run.join()
    assert sorted(versions) == list(range(80))


def test_a_run_folder_of_a_live_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {tmp_path}, name: '', version: 7}}}}"
    with another_holds(tmp_path / "version_7"):
        assert main(command(tmp_path, logger, workers=0)) == 2
    (line,) = ERROR.findall(capsys.readouterr().err)
    assert f"{tmp_path}/version_7: another process is writing here; wait for it or choose another folder" in line
    assert [p.name for p in (tmp_path / "version_7").iterdir()] == [".lock"]
    assert main(command(tmp_path, logger, workers=0)) == 0  # which has ended now


def test_a_wandb_run_that_still_goes_on_is_not_taken_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = f"{{class_path: WandbLogger, init_args: {{save_dir: {tmp_path}, offline: true, id: one, project: p}}}}"
    with another_holds(tmp_path / "p" / "one"):
        assert main(command(tmp_path, f"--trainer.logger={logger}", workers=0)) == 2
    (line,) = ERROR.findall(capsys.readouterr().err)
    assert f"{tmp_path}/p/one: another process is writing here" in line


def test_pictures_of_a_live_run_are_not_mixed(
    tmp_path: Path, checkpoint: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    with another_holds(output):
        assert explain(images(checkpoint, photo, output)) == 2
    (line,) = ERROR.findall(capsys.readouterr().err)
    assert f"{output}: another process is writing here" in line
    assert [p.name for p in output.iterdir()] == [".lock"]


def test_checkpoints_of_two_runs_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    shared = f"{{class_path: ModelCheckpoint, init_args: {{dirpath: {tmp_path}/shared, save_last: true}}}}"
    for _ in range(2):
        assert main(command(tmp_path, f"--trainer.callbacks={shared}", "--trainer.max_epochs=1", workers=0)) == 0
    names = sorted(p.name for p in (tmp_path / "shared").iterdir())
    assert names == ["epoch=0-step=5-v1.ckpt", "epoch=0-step=5.ckpt", "last-v1.ckpt", "last.ckpt"]


# full


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a disk of so many kilobytes.

    A tmpfs, where this process may mount one; else an ordinary folder, and files have a limit instead (`limit`).
    """
    folder = tmp_path / "disk"
    folder.mkdir()

    def make(kilobytes: int) -> Path:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if MAY_MOUNT:
            subprocess.run(mount, check=True)
        return folder

    yield make
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def limit(size: int) -> Callable[[], object]:
    """Where no small disk can be mounted, the operating system refuses larger files; to be done in the process."""
    return bool if MAY_MOUNT else partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))


FULL = rf"\((?:{os.strerror(errno.ENOSPC)}|{os.strerror(errno.EFBIG)})\)"


def test_a_fit_on_a_full_disk_ends_with_its_last_checkpoint(disk: Callable[[int], Path], tmp_path: Path) -> None:
    full = disk(3000)
    run = start(command(full, workers=0), tmp_path / "printed", {} if MAY_MOUNT else {FAULT: "full:7"})
    line = one_line(run)
    assert re.search(rf"{full}/version_0/checkpoints/\S*\.ckpt: cannot be written {FULL}; make room there", line)
    assert f"To resume: the same command with --ckpt_path last ({full}/version_0/checkpoints/last.ckpt)" in line
    assert assert_whole(full) > 3
    assert not list(full.rglob("*.part"))
    found = torch.load(full / "version_0/checkpoints/last.ckpt")
    assert found["global_step"] > 0

    for path in full.glob("version_0/checkpoints/epoch*.ckpt"):  # room is made
        path.unlink()
    whole = start(command(tmp_path / "whole", workers=0), tmp_path / "printed_whole")
    few = "--trainer.callbacks={class_path: ModelCheckpoint, init_args: {save_last: true}}"
    again = start(command(full, few, "--ckpt_path=last", workers=0), tmp_path / "printed_again")
    assert (whole.wait(), again.wait()) == (0, 0), again.printed
    assert same(weights(full / "version_1"), weights(tmp_path / "whole/version_0"))
    steps = max(step for _, step in rows(tmp_path / "whole"))
    assert rows(full)[False, steps] == rows(tmp_path / "whole")[False, steps]


def test_a_benchmark_on_a_full_disk_keeps_its_shards(
    disk: Callable[[int], Path], checkpoint: Path, tmp_path: Path
) -> None:
    full = disk(44)
    arguments = [name for name in benchmark(checkpoint, full) if name != "--save-heatmaps"] + ["--data.val_size=300"]
    run = start(arguments, tmp_path / "printed", module="agcam.cli.explain", before=limit(9000))
    assert re.search(rf"{full}/\S+: cannot be written {FULL}; make room there", one_line(run))
    left = list(full.glob("shards/*.npz"))
    assert left
    assert_whole(full)
    assert not list(full.rglob(".*.part"))
    assert not (full / "results.json").exists()
    if MAY_MOUNT:
        subprocess.run(["mount", "-o", "remount,size=4m", str(full)], check=True)
    kept = {path: path.stat().st_mtime_ns for path in left}
    again = start(arguments, tmp_path / "printed_again", module="agcam.cli.explain")
    assert again.wait() == 0, again.printed
    assert {path: path.stat().st_mtime_ns for path in left} == kept


def test_photographs_on_a_full_disk(disk: Callable[[int], Path], checkpoint: Path, photo: Path, tmp_path: Path) -> None:
    full = disk(8)
    run = start(images(checkpoint, photo, full), tmp_path / "printed", module="agcam.cli.explain", before=limit(500))
    assert re.search(rf"{full}/\S+: cannot be written {FULL}; make room there", one_line(run))
    assert_whole(full)
    assert not (full / "predictions.json").exists()


# read-only


@pytest.fixture(params=["mounted read-only", "a file"])
def closed(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Where nothing can be written: a folder that is mounted read-only, or a file where the folder should be.

    Root writes whatever the mode says, but may mount; for anybody else a mode does.
    """
    path = tmp_path / "closed"
    if request.param == "a file":
        path.touch()
        yield path
        return
    path.mkdir()
    if not MAY_MOUNT:
        path.chmod(0o555)
        yield path
        path.chmod(0o755)
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


CLOSED = "|".join(os.strerror(code) for code in (errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EEXIST))


@pytest.mark.parametrize("what", ["fit", "benchmark", "images", "report"])
def test_output_that_cannot_be_written_is_one_line(
    what: str, closed: Path, checkpoint: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if what == "fit":
        status = main(command(closed, workers=0))
    elif what == "report":
        assert explain([*images(checkpoint, photo, tmp_path / "explained"), "--quiet"]) == 0
        status = explain(["report", str(tmp_path / "explained"), "-o", str(closed / "report.html")])
    else:
        arguments = {"benchmark": benchmark(checkpoint, closed), "images": images(checkpoint, photo, closed)}
        status = explain(arguments[what])
    assert status == 2
    (line,) = ERROR.findall(capsys.readouterr().err)
    assert re.search(rf"{closed}.*({CLOSED})|({CLOSED}).*{closed}", line)
