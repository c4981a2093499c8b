"""What killed commands leave: every file whole, and the figures in them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from reading import csv_rows


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
    ".jsonl": lambda path: [json.loads(line) for line in path.read_text().rpartition("\n")[0].splitlines()],
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


def rows(folder: Path) -> dict[tuple[bool, float], dict[str, float]]:
    """All that was logged in all versions, less the drift of heatmaps, which a new process has not seen."""
    found = {}
    for version in sorted(folder.glob("version_*")):
        for row in csv_rows(version / "metrics.csv") if (version / "metrics.csv").is_file() else []:
            logged = {name: value for name, value in row.items() if not name.endswith("/drift")}
            found["train/loss" in logged, logged["step"]] = logged
    return found
