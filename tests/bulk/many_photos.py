"""Photographs and Parquet shards for tests of many images."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pyarrow import parquet


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (30 + seed % 7, 50, 3)).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def write_photos(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number:03}.png").write_bytes(picture(number))
    return folder


def arguments(checkpoint: Path, source: object, output: Path, *more: object) -> list[str]:
    known = ["images", "--device", "cpu", "--checkpoint", checkpoint, "--input", source, "--output", output]
    return [*map(str, known), "--format", "parquet", "--quiet", "--batch-size", "4", *map(str, more)]


def rows(output: Path) -> list[dict[str, Any]]:
    """All rows, in the order of the shards."""
    files = sorted((output / "shards").iterdir())
    assert all(path.suffix == ".parquet" for path in files)
    return [row for path in files for row in parquet.read_table(path).to_pylist()]


def manifest(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "manifest.json").read_bytes())
    return found


def count_done(output: Path) -> int:
    return len(list((output / "shards").glob("*.parquet")))
