"""kill -9 at random moments of a fit and of a benchmark: nothing half-written, and the end is as if it never happened.

The processes are real, and so is the signal; they are forked from one that has imported everything, so that the moments
fall on what the command does. A moment is a share of the time that the uninterrupted command took; each has its seed.
"""

from __future__ import annotations

import csv
import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from test_resume import command, same, weights

from processes import start
from reading import csv_rows

LONG = [pytest.mark.slow, pytest.mark.timeout(3000)]
COUNTS = [pytest.param(3, id="a_few"), pytest.param(50, id="fifty", marks=LONG)]
SEED = 20261124


def _csv(path: Path) -> None:
    with path.open(newline="") as file:
        assert len({len(row) for row in csv.reader(file)}) == 1


def _pixels(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def _npz(path: Path) -> None:
    with np.load(path, allow_pickle=False) as arrays:
        assert [arrays[name] for name in arrays.files]


def _ends(end: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        assert path.read_bytes().rstrip().endswith(end.encode())

    return check


def _yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


READERS: dict[str, Callable[[Path], object]] = {
    ".ckpt": torch.load,
    ".csv": _csv,
    ".html": _ends("</html>"),
    ".jpg": _pixels,
    ".json": lambda path: json.loads(path.read_text()),
    ".md": _ends(""),
    ".npz": _npz,
    ".pdf": _ends("%%EOF"),
    ".png": _pixels,
    ".svg": ElementTree.parse,
    ".safetensors": load_file,
    ".tex": _ends("\\end{tabular}"),
    ".yaml": _yaml,
}


def assert_whole(folder: Path) -> int:
    """Read every file below a folder that has its final name; returns how many there are."""
    paths = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".part" and p.name != ".lock"]
    for path in paths:
        assert path.stat().st_size, f"{path} is empty"
        try:
            READERS[path.suffix](path)
        except Exception as error:
            raise AssertionError(f"{path} is not whole: {error}") from error
    return len(paths)


def figures(folder: Path) -> tuple[Any, str]:
    """What a benchmark found, less dates and seconds."""
    results = json.loads((folder / "results.json").read_text())
    del results["about"]["date"]
    for row in results["rows"]:
        del row["cost"]
    return results, (folder / "images.csv").read_text()


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


def rows(folder: Path) -> dict[tuple[bool, float], dict[str, float]]:
    """All that was logged in all versions, less the drift of heatmaps, which a new process has not seen."""
    found = {}
    for version in sorted(folder.glob("version_*")):
        for row in csv_rows(version / "metrics.csv") if (version / "metrics.csv").is_file() else []:
            logged = {name: value for name, value in row.items() if not name.endswith("/drift")}
            found["train/loss" in logged, logged["step"]] = logged
    return found


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
