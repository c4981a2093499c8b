import numpy as np
import pytest
import torch

from agcam.training.mixing import make_mixing

LABEL = torch.tensor([0, 3, 1, 1, 2])  # an odd number
ONE_HOT = torch.nn.functional.one_hot(LABEL, 4).float()
SEVERAL = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, 1]]).float()


def images(label: torch.Tensor) -> torch.Tensor:
    """A channel for each class, white where the label names it: what is mixed into an image can be read off it."""
    return label[:, :, None, None].expand(-1, -1, 24, 24).contiguous()


@pytest.mark.parametrize("kind", [{"mixup": 0.4, "cutmix": 0}, {"mixup": 0, "cutmix": 1.0}, {"mixup": 1, "cutmix": 1}])
@pytest.mark.parametrize("several", [False, True])
def test_labels_are_mixed_as_the_pixels_are(kind: dict[str, float], several: bool) -> None:
    torch.manual_seed(0)
    mixing = make_mixing(**kind, classes=4)
    dense = SEVERAL if several else ONE_HOT
    changed = 0
    for _ in range(20):
        mixed, label = mixing(images(dense), SEVERAL if several else LABEL)
        assert torch.allclose(mixed.mean((2, 3)), label, atol=1e-5)
        changed += not torch.equal(label, dense)
    assert changed > 15


def test_what_is_mixed_follows_torchs_generator_alone() -> None:
    mixing = make_mixing(0.4, 1.0, 4)
    mixed = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        np.random.random()  # noqa: NPY002  # whatever numpy's generator is at
        mixed.append(torch.stack([mixing(images(ONE_HOT), LABEL)[1] for _ in range(5)]))
    assert torch.equal(mixed[0], mixed[1])
    assert not torch.equal(mixed[0], mixed[2])


def test_no_alpha_no_mixing() -> None:
    assert make_mixing(0, 0, 4) is None
