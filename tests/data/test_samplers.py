import logging
from collections import Counter
from pathlib import Path

import pytest
import torch

from agcam.data import CUB200, VOC2012, Shapes
from agcam.data.labels import read_labels
from agcam.data.samplers import BalancedSampler
from agcam.data.shapes import CLASSES

RARE = [(0,)] * 900 + [(1,)] * 90 + [(2,)] * 10
SEVERAL = [(0,)] * 800 + [(0, 1)] * 150 + [(0, 1, 2)] * 50 + [()] * 200


@pytest.fixture(autouse=True)
def _own_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # other tests leave theirs


def test_an_epoch_shows_each_class_about_equally_often() -> None:
    shown = Counter(RARE[draw.position][0] for draw in BalancedSampler(range(1000), RARE))
    assert sum(shown.values()) == 1000
    assert all(280 < shown[label] < 390 for label in range(3))


def test_the_rarest_class_of_an_image_decides() -> None:
    shown = Counter(SEVERAL[draw.position] for draw in BalancedSampler(range(1200), SEVERAL))
    # chances as 800/1000 : 150/200 : 50/50 : 200/1000
    expected = {(0,): 0.8, (0, 1): 0.75, (0, 1, 2): 1.0, (): 0.2}
    for present, share in expected.items():
        assert shown[present] == pytest.approx(1200 * share / sum(expected.values()), rel=0.2), present


def test_order_depends_on_seed_and_epoch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(seed: int, epoch: int) -> list[int]:
        monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
        torch.rand(epoch)  # whatever torch's generator is at
        order = BalancedSampler(range(1000), RARE)
        order.set_epoch(epoch)
        return [draw.position for draw in order]

    assert drawn(1, 0) == drawn(1, 0)
    assert drawn(1, 0) != drawn(1, 1)
    assert drawn(1, 0) != drawn(2, 0)


def test_processes_share_one_list_and_go_on_within_it() -> None:
    whole = list(BalancedSampler(range(1000), RARE))
    parts = [BalancedSampler(range(1000), RARE, rank, 2) for rank in range(2)]
    assert [draw for pair in zip(*parts, strict=True) for draw in pair] == whole
    parts[1].start = 100
    assert list(parts[1]) == whole[201::2]


def test_an_image_drawn_twice_is_augmented_in_two_ways() -> None:
    draws = list(BalancedSampler(range(1000), RARE))
    assert len({draw.position for draw in draws}) < 800
    assert len({draw.seed for draw in draws}) == 1000


def test_the_flag_balances_what_training_sees(cub_root: Path) -> None:
    for data in (
        CUB200(str(cub_root), balanced=True, batch_size=4, num_workers=0),
        Shapes(20, balanced=True, batch_size=4, num_workers=0),
    ):
        data.setup("fit")
        assert isinstance(data.train_dataloader().sampler, BalancedSampler)
        assert len(next(iter(data.train_dataloader()))) == 4
        labels = read_labels(data._sources["train"])
        assert all(labels[i] == data._sources["train"][i].labels for i in range(len(labels)))


def test_classes_without_training_images_are_named(voc_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [*CLASSES, *(f"new{i}" for i in range(7))]
    with caplog.at_level(logging.WARNING, "agcam"):
        VOC2012(str(voc_root), classes=CLASSES).setup("fit")
        assert not caplog.records
        VOC2012(str(voc_root), classes=names).setup("validate")
        assert not caplog.records
        VOC2012(str(voc_root), classes=names).setup("fit")
    (record,) = caplog.records
    assert record.getMessage() == (
        "7 of 15 classes have no training image: new0, new1, new2, new3, new4 and 2 more; the model cannot learn them"
    )
