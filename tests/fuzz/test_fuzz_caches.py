"""Broken caches of shrunk images: they are built again, or the file is named."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from harness import fuzz, inputs
from mutations import broken_bytes
from PIL import Image

from agcam.data.cache import CachedDataset
from agcam.data.source import FileDataset, Item


@inputs(150)
def test_caches(examples: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("agcam.data.cache"), "disabled", True)
    for name in "ab":
        Image.new("RGB", (12, 9)).save(tmp_path / f"{name}.png")
    Image.new("L", (12, 9)).save(tmp_path / "mask.png")
    box, label = np.array([[1, 2, 5, 6]], np.float32), np.array([0])
    items = [Item(tmp_path / f"{name}.png", name, (0,), box, label, tmp_path / "mask.png") for name in "ab"]
    source = FileDataset(items, ["x"], False, lambda item: np.zeros((9, 12), np.uint8))
    cache = CachedDataset(source, tmp_path / "cache", 6).path

    def read(content: bytes) -> None:
        cache.write_bytes(content)
        found = CachedDataset(source, tmp_path / "cache", 6)
        for index in range(len(found)):
            example = found[index]
            assert example.mask is None or example.mask.shape == example.image.shape[:2]

    fuzz("caches", broken_bytes(cache.read_bytes()), read, cache, examples)
