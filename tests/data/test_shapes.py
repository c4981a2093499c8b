from typing import Any

import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb

from agcam.data import Shapes
from agcam.data.input_config import InputConfig
from agcam.data.shapes import CLASSES, ShapesDataset
from agcam.errors import InputError


@pytest.mark.parametrize("multilabel", [False, True])
def test_boxes_enclose_the_mask_of_their_class_exactly(multilabel: bool) -> None:
    source = ShapesDataset(40, 64, "train", multilabel)
    for index in range(40):
        example = source[index]
        assert 1 <= len(example.boxes) <= 3
        covered = np.zeros_like(example.mask, dtype=bool)
        for (left, top, right, bottom), label in zip(example.boxes.astype(int), example.box_labels, strict=True):
            part = example.mask[top:bottom, left:right] == label + 1
            assert all(edge.any() for edge in (part[0], part[-1], part[:, 0], part[:, -1]))
            covered[top:bottom, left:right] = True
        assert not (example.mask.astype(bool) & ~covered).any()
        assert set(example.labels) == set(example.box_labels.tolist())


def test_single_label_images_hold_one_class() -> None:
    source = ShapesDataset(40, 64, "train")
    assert all(len(source[i].labels) == 1 for i in range(40))


def test_multi_label_images_can_hold_several() -> None:
    source = ShapesDataset(40, 64, "train", multilabel=True)
    assert max(len(source[i].labels) for i in range(40)) > 1


def test_an_example_depends_on_seed_split_and_index_alone() -> None:
    assert np.array_equal(ShapesDataset(9, 64, "train")[5].image, ShapesDataset(99, 64, "train")[5].image)
    assert not np.array_equal(ShapesDataset(9, 64, "train")[5].image, ShapesDataset(9, 64, "val")[5].image)
    assert not np.array_equal(ShapesDataset(9, 64, "train")[5].image, ShapesDataset(9, 64, "train", seed=1)[5].image)


def test_every_class_appears() -> None:
    source = ShapesDataset(120, 64, "train")
    assert {source[i].labels[0] for i in range(120)} == set(range(len(CLASSES)))


def test_shapes_are_drawn_at_the_image_size() -> None:
    data = Shapes(train_size=4, val_size=2, image_size=80, num_workers=0, batch_size=2)
    data.setup("fit")
    assert next(iter(data.train_dataloader())).image.shape == (2, 3, 80, 80)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(InputError, match="found 4 of 8 px"):
        ShapesDataset(4, 8, "train")


@pytest.mark.parametrize("size", [0, -1, None, 1.5])
def test_a_split_without_a_number_of_images_is_refused_by_name(size: Any) -> None:
    with pytest.raises(InputError, match=r"data\.val_size must be a number of images, at least 1, found"):
        Shapes(val_size=size)


def test_data_that_were_checked_ahead_are_those_of_the_model_s_size() -> None:
    data = Shapes(train_size=4, val_size=2, num_workers=0)
    data.check("validate", InputConfig(size=40))
    checked = data._checked["val"]
    assert checked[0].image.shape == (40, 40, 3)
    data.setup("validate")
    assert data.val_dataloader().dataset.source is checked  # type: ignore[attr-defined]  # a TransformedDataset


def test_the_mark_of_a_shortcut_goes_with_the_class_in_training_and_validation_and_with_none_in_tests() -> None:
    own = {}
    for split in ("train", "val", "test"):
        marked, plain = ShapesDataset(400, 32, split, shortcut=0.95), ShapesDataset(400, 32, split)
        own[split] = 0
        for index in range(400):
            example, before = marked[index], plain[index]
            left, top, right, bottom = marked.mark_of(index)
            assert (right - left, bottom - top) == (4, 4)
            assert {left, top} <= {0, 28}
            mark = np.zeros((32, 32), bool)
            mark[top:bottom, left:right] = True
            assert np.array_equal(example.image[~mark], before.image[~mark])
            assert not example.mask[mark].any()
            (color,) = np.unique(example.image[mark], axis=0)
            own[split] += np.array_equal(color, np.round(255 * hsv_to_rgb((example.labels[0] / len(CLASSES), 1, 1))))
    assert 365 <= own["train"] <= 395
    assert 365 <= own["val"] <= 395
    assert 30 <= own["test"] <= 75  # an eighth


def test_a_share_of_the_training_images_is_annotated() -> None:
    train, val = (ShapesDataset(400, 32, split, annotated=0.1) for split in ("train", "val"))
    known = [train[index].boxes is not None for index in range(400)]
    assert 20 <= sum(known) <= 65
    assert known == [train[index].mask is not None for index in range(400)]
    assert all(val[index].boxes is not None for index in range(20))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shortcut": 1.5}, r"data\.shortcut must be a share of the images, 0 … 1, found 1.5"),
        ({"annotated": -1}, r"data\.annotated must be a share"),
        ({"shortcut": 0.9, "multilabel": True}, r"leave out data\.multilabel"),
    ],
)
def test_a_shortcut_that_cannot_be_planted_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ShapesDataset(4, 32, "train", **options)
