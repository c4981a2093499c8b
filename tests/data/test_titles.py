"""What tables call a data set."""

from collections.abc import Callable

import pytest

from agcam.data import CUB200, VOC2012, ImageDataModule, Shapes


@pytest.mark.parametrize(
    ("data", "title"),
    [
        (lambda: VOC2012("data/BCCD", classes=["RBC"]), "BCCD (VOC format)"),
        (lambda: VOC2012("data/BCCD"), "VOC2012"),
        (lambda: CUB200("data/CUB_200_2011"), "CUB200"),
        (lambda: CUB200("data/nabirds"), "nabirds (CUB format)"),
        (Shapes, "Shapes"),
    ],
)
def test_other_data_in_a_format_are_not_called_by_its_first_data_set(
    data: Callable[[], ImageDataModule], title: str
) -> None:
    assert data().title == title
