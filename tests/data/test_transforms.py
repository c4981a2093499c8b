import numpy as np
import pytest
import torch

from agcam.data.batch import Example
from agcam.data.input_config import InputConfig
from agcam.data.shapes import ShapesSource
from agcam.data.transforms import Augmentation, Transform, to_pixels, visible_part

CONFIGS = [
    (InputConfig(size=64), None),
    (InputConfig(size=64, resize="center_crop"), None),
    (InputConfig(size=64), Augmentation()),
    (InputConfig(size=96), Augmentation(scale=0.6, flip=1.0, color=0.0)),
]


def painted(seed: int, height: int = 150, width: int = 200) -> Example:
    """A red rectangle on black, its box and its mask."""
    rng = np.random.default_rng(seed)
    left, top = int(rng.integers(20, 90)), int(rng.integers(20, 60))
    right, bottom = left + int(rng.integers(40, 80)), top + int(rng.integers(40, 70))
    image = np.zeros((height, width, 3), np.uint8)
    image[top:bottom, left:right, 0] = 255
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 3
    return Example(image, (2,), np.array([[left, top, right, bottom]], np.float32), np.array([2]), mask, "red")


@pytest.mark.parametrize(("config", "augmentation"), CONFIGS)
def test_boxes_and_masks_stay_on_their_objects(config: InputConfig, augmentation: Augmentation | None) -> None:
    torch.manual_seed(0)
    transform = Transform(config, augmentation)
    seen = 0
    for seed in range(30):
        sample = transform(painted(seed), torch.tensor(2), 0)
        red = to_pixels(sample.image, config)[..., 0] > 90
        assert (red == (sample.mask.numpy() == 3)).mean() > 0.97
        if not red.any() or not len(sample.boxes):
            continue
        seen += 1
        ys, xs = np.nonzero(red)
        found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(sample.boxes.numpy()[0] - found).max() <= 1.6
        assert sample.box_labels.tolist() == [2]
    assert seen > 15


def test_squash_scales_boxes_exactly() -> None:
    example = painted(0)
    sample = Transform(InputConfig(size=224))(example, torch.tensor(2), 0)
    expected = example.boxes[0] / np.array([200, 150, 200, 150]) * 224
    assert np.allclose(sample.boxes.numpy()[0], expected, atol=1e-3)


def test_seed_governs_augmentation() -> None:
    transform = Transform(InputConfig(size=64), Augmentation())
    images = []
    for _ in range(2):
        torch.manual_seed(7)
        images.append(transform(painted(1), torch.tensor(2), 0).image)
    assert torch.equal(*images)
    assert not torch.equal(images[0], transform(painted(1), torch.tensor(2), 0).image)


def test_normalisation_is_undone_exactly() -> None:
    config = InputConfig(size=48)
    example = ShapesSource(1, 48, "train")[0]
    sample = Transform(config)(example, torch.tensor(0), 0)
    assert np.array_equal(to_pixels(sample.image, config), example.image)


def test_missing_annotations_stay_none() -> None:
    example = Example(np.zeros((50, 60, 3), np.uint8), (0,), None, None, None, "bare")
    sample = Transform(InputConfig(size=32), Augmentation())(example, torch.tensor(0), 5)
    assert (sample.boxes, sample.box_labels, sample.mask, sample.index) == (None, None, None, 5)


def test_visible_part_is_what_a_centre_crop_shows() -> None:
    image = np.zeros((100, 300, 3), np.uint8)
    assert visible_part(image, InputConfig(resize="squash")).shape == (100, 300, 3)
    assert visible_part(image, InputConfig(resize="center_crop", crop_pct=0.5)).shape == (50, 50, 3)
