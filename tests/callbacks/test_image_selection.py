"""Which images are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agcam
from agcam import InputError
from agcam.callbacks.image_selection import ImageSelection, by_class


def test_by_class_takes_each_class_in_turn() -> None:
    labels: list[Any] = [(0,), (0,), (0,), (2,), (2,), (5,)]
    assert by_class(labels, 3) == [0, 3, 5]
    assert by_class(labels, 5) == [0, 1, 3, 4, 5]
    assert by_class(labels, 99) == list(range(6))
    assert by_class([(c,) for c in range(10)], 4) == [0, 2, 5, 7]  # more classes than places: spread over them
    assert by_class([(0, 1), (1,), (0,)], 2) == [0, 1]  # an image of two classes is taken once
    assert by_class([(), ()], 2) == []


def test_classes_are_those_of_the_source(cub_root: Path) -> None:
    data = agcam.data.CUB200(root=str(cub_root), num_workers=0)
    data.setup("validate")
    dataset = data.val_dataloader().dataset
    labels = [dataset.source[i].labels for i in range(9)]
    selection = ImageSelection(4, "class")
    selection.begin("val", dataset, 9)
    assert selection.chosen["val"] == by_class(labels, 4)
    with pytest.raises(InputError, match="gallery_by 'class' needs the labels of list"):
        selection.begin("test", [], 0)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="'index', 'class' or 'hardest', found 'nicest'"):
        ImageSelection(4, "nicest")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 0, found -1"):
        ImageSelection(-1, "index")
