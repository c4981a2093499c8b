import math

import pytest
import torch

from agcam.data.input_config import InputConfig
from agcam.errors import ModelError
from agcam.training.classifier import ViTClassifier
from agcam.training.optim import lr_factor

ARGS = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


def test_input_follows_the_backbones_own_configuration() -> None:
    assert ViTClassifier("vit_base_patch16_clip_224.openai").input_config.mean == pytest.approx(
        (0.4815, 0.4578, 0.4082), abs=1e-3
    )
    augreg = ViTClassifier("vit_small_patch16_224.augreg_in21k").input_config
    assert (augreg.mean, augreg.interpolation, augreg.size) == ((0.5, 0.5, 0.5), "bicubic", 224)
    assert ViTClassifier("vit_small_patch16_224.augreg_in21k", image_size=448).input_config.size == 448


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    factors = [lr_factor(step, 10, 100) for step in range(101)]
    assert factors[:10] == sorted(factors[:10])
    assert factors[10] == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert math.isclose(factors[100], 0.0, abs_tol=1e-12)


def test_an_unknown_backbone_suggests_others() -> None:
    with pytest.raises(ModelError, match=r"timm has no model 'vit_huge_9000'.*close: .*vit_huge"):
        ViTClassifier("vit_huge_9000")


def test_wrong_backbone_arguments_are_one_line() -> None:
    with pytest.raises(ModelError, match=r"timm cannot make 'vit_tiny_patch16_224' with .*tea"):
        ViTClassifier("vit_tiny_patch16_224", backbone_args={"tea": 1}, class_names=["a"], multilabel=False)


def test_probabilities_fit_the_task() -> None:
    logits = torch.tensor([[0.0, 0.0]])
    single = ViTClassifier("vit_tiny_patch16_224", class_names=["a", "b"], multilabel=False)
    several = ViTClassifier("vit_tiny_patch16_224", class_names=["a", "b"], multilabel=True)
    assert single.probabilities(logits).tolist() == [[0.5, 0.5]]
    assert several.probabilities(logits + 9).min() > 0.99


def test_data_decide_size_and_normalisation_of_an_untrained_model() -> None:
    model = ViTClassifier(input={"size": 40, "mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)})
    assert model.input_config == InputConfig(size=40, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
