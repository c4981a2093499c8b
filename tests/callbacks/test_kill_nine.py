"""kill -9 at random moments of a fit and of a benchmark: nothing half-written, and the end is as if it never happened.

The processes are real, and so is the signal; they are forked from one that has imported everything, so that the moments
fall on what the command does. A moment is a share of the time that the uninterrupted command took; each has its seed.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from processes import start
from resumable_runs import command, same, weights
from whole_files import assert_whole, figures, rows

LONG = [pytest.mark.slow, pytest.mark.timeout(3000)]
COUNTS = [pytest.param(3, id="a_few"), pytest.param(50, id="fifty", marks=LONG)]
SEED = 20261124


def report(what: str, took: list[int], kept: int, files: int, began: float) -> None:
    killed = took.count(-signal.SIGKILL)
    seconds = time.monotonic() - began
    print(  # noqa: T201  # -s shows it
        f"\n{what}: {len(took)} moments, {killed} before the end; {kept} went on from what was there, "
        f"{len(took) - kept} began anew; {files} files read; {seconds:.0f} s"
    )


@pytest.mark.parametrize("count", COUNTS)
def test_a_fit_survives_kill_nine_at_any_moment(count: int, tmp_path: Path) -> None:
    gallery = "--explanation.gallery=2"
    start(["fit", "--help"], tmp_path / "printed").wait()  # the process that others are forked from takes seconds
    began = time.monotonic()
    whole = start(command(tmp_path / "whole", gallery), tmp_path / "printed")
    assert whole.wait() == 0, whole.printed
    length, began = time.monotonic() - began, time.monotonic()
    expected, end = rows(tmp_path / "whole"), weights(tmp_path / "whole" / "version_0")
    took, kept, files = [], 0, 0
    for number in range(count):
        folder = tmp_path / str(number)
        run = start(command(folder, gallery), tmp_path / f"printed_{number}")
        time.sleep(random.Random(SEED + number).random() * length)
        run.process.kill()
        took.append(run.wait())
        folder.mkdir(exist_ok=True)
        files += assert_whole(folder)
        resume = ["--ckpt_path=last"] if list(folder.glob("*/checkpoints/last*.ckpt")) else []
        again = start(command(folder, gallery, *resume), tmp_path / f"printed_again_{number}")
        assert again.wait() == 0, f"seed {SEED + number}: {again.printed}"
        files += assert_whole(folder)
        kept += bool(resume)
        assert rows(folder) == expected, f"seed {SEED + number}"
        newest = max(folder.glob("version_*/checkpoints/last.ckpt")).parent.parent
        assert same(weights(newest), end), f"seed {SEED + number}"
    report("fit", took, kept, files, began)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run = start(command(folder, "--trainer.max_epochs=1"), folder / "printed")
    assert run.wait() == 0, run.printed
    return folder / "version_0" / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize("count", COUNTS)
def test_a_benchmark_survives_kill_nine_at_any_moment(count: int, checkpoint: Path, tmp_path: Path) -> None:
    def benchmark(output: Path, printed: Path) -> Any:
        methods = ["--methods", "agcam", "--metrics", "localization", "pointing_game", "--save-heatmaps", "--quiet"]
        data = ["--data", "Shapes", "--data.val_size", "320"]
        model = ["benchmark", "--device", "cpu", "--checkpoint", str(checkpoint), "--output", str(output)]
        return start([*model, *methods, *data], printed, module="agcam.cli.explain")

    began = time.monotonic()
    whole = benchmark(tmp_path / "whole", tmp_path / "printed")
    assert whole.wait() == 0, whole.printed
    length, began = time.monotonic() - began, time.monotonic()
    expected = figures(tmp_path / "whole")
    took, kept, files = [], 0, 0
    for number in range(count):
        folder = tmp_path / str(number)
        run = benchmark(folder, tmp_path / f"printed_{number}")
        time.sleep(random.Random(SEED + number).random() * length)
        run.process.kill()
        took.append(run.wait())
        files += assert_whole(folder)
        left = {path: path.stat().st_mtime_ns for path in folder.glob("shards/*.npz")}
        again = benchmark(folder, tmp_path / f"printed_again_{number}")
        assert again.wait() == 0, f"seed {SEED + number}: {again.printed}"
        files += assert_whole(folder)
        kept += bool(left)
        assert {path: path.stat().st_mtime_ns for path in left} == left, f"seed {SEED + number}"
        assert figures(folder) == expected, f"seed {SEED + number}"
    report("benchmark", took, kept, files, began)
