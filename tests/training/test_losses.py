import pytest
import timm.loss
import torch

from agcam.training.losses import LossName, choose_loss, image_losses

torch.manual_seed(0)
LOGITS = 3 * torch.randn(5, 7)
LABEL = torch.tensor([0, 6, 2, 2, 5])
SEVERAL = (torch.rand(5, 7) < 0.4).float()
MIXED = LABEL.new_zeros(5, 7).float().scatter(1, LABEL[:, None], 0.7).roll(1, 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_losses_are_those_of_timm(smoothing: float) -> None:
    def mean(name: LossName, label: torch.Tensor, multilabel: bool) -> torch.Tensor:
        return image_losses(name, LOGITS, label, multilabel, smoothing).mean()

    single = timm.loss.BinaryCrossEntropy(smoothing)
    assert torch.allclose(mean("bce", LABEL, False), single(LOGITS, LABEL))
    asymmetric = timm.loss.AsymmetricLossMultiLabel(smoothing=smoothing, reduction="mean")
    assert torch.allclose(mean("asymmetric", SEVERAL, True), asymmetric(LOGITS, SEVERAL))
    several = timm.loss.BinaryCrossEntropy(smoothing, smooth_dense=True)
    assert torch.allclose(mean("bce", SEVERAL, True), several(LOGITS, SEVERAL))
    if smoothing:
        plain = timm.loss.LabelSmoothingCrossEntropy(smoothing)
        assert torch.allclose(mean("cross_entropy", LABEL, False), plain(LOGITS, LABEL))
    else:
        assert torch.allclose(mean("cross_entropy", MIXED, False), timm.loss.SoftTargetCrossEntropy()(LOGITS, MIXED))


def test_there_is_a_loss_for_each_image() -> None:
    for name, label, multilabel in (
        ("cross_entropy", LABEL, False),
        ("bce", LABEL, False),
        ("asymmetric", SEVERAL, True),
    ):
        losses = image_losses(name, LOGITS, label, multilabel)
        assert losses.shape == (5,)
        assert torch.allclose(losses[2:3], image_losses(name, LOGITS[2:3], label[2:3], multilabel))


def test_auto_follows_the_data() -> None:
    assert (choose_loss("auto", False), choose_loss("auto", True)) == ("cross_entropy", "bce")
