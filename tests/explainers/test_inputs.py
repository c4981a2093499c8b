"""Bad input is refused with a message that names it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_models import error, random_images, small_model
from torch import nn

from agcam import explain, methods
from agcam.errors import InputError, ModelError
from agcam.explainers.explain import explain_recording
from agcam.explainers.recorder import Tape

NAN = random_images()
NAN[1, 0, 3, 3] = torch.nan

IMAGES: dict[str, tuple[Any, str]] = {
    "rank": (torch.zeros(3, 32, 32), r"\(B, 3, H, W\), found \(3, 32, 32\)"),
    "array": (np.zeros((1, 3, 32, 32), np.float32), "found ndarray"),
    "integers": (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "torch.uint8; divide by 255"),
    "not a number": (NAN, r"images \[1\] of the batch hold NaN"),
    "empty": (torch.zeros(0, 3, 32, 32), "empty batch"),
    "channels": (torch.zeros(1, 1, 32, 32), "1 channels, vit_tiny_patch16_224 takes 3"),
    "size": (torch.zeros(1, 3, 40, 32), "40×32, vit_tiny_patch16_224 takes 32×32"),
    "precision": (torch.zeros(1, 3, 32, 32, dtype=torch.float64), "torch.float64, .* is torch.float32"),
}

TARGETS: dict[str, tuple[Any, str]] = {
    "too large": (5, "target 5 is out of range: the model has classes 0 … 4"),
    "negative": (torch.tensor([0, -1]), "target -1 is out of range"),
    "name": ("cat", "found 'cat'"),
    "floats": (torch.zeros(2), "class indices .* found torch.float32"),
    "wrong batch": (torch.zeros(3, dtype=torch.long), r"B = 2, found \(3,\)"),
    "rank": (torch.zeros(2, 1, 1, dtype=torch.long), r"found \(2, 1, 1\)"),
    "ragged": ([[0, 1], [2]], r"found \[\[0, 1\], \[2\]\]; fill shorter rows up by repeating a class"),
    "function": (lambda logits: logits[:, 0], "give a function of the output as score="),
    "none chosen": (torch.zeros(2, 0, dtype=torch.long), r"found \(2, 0\)"),
}


@pytest.mark.parametrize("case", IMAGES)
def test_images(case: str) -> None:
    images, message = IMAGES[case]
    with pytest.raises(InputError, match=message):
        explain(small_model(), images)


def test_images_on_another_device() -> None:
    with pytest.raises(InputError, match="images are on cpu, vit_tiny_patch16_224 is on meta"):
        explain(small_model().to("meta"), random_images())


def test_images_that_are_no_multiple_of_the_patches() -> None:
    with pytest.raises(InputError, match="30×32, no multiple of the patches of vit_tiny_patch16_224, 8×8"):
        explain(small_model(dynamic_img_size=True), random_images(30, 32))
    with pytest.raises(InputError, match="30×32, no multiple of the patches"):
        explain(small_model("naflexvit_base_patch16_gap"), random_images(30, 32))


def test_models_with_other_channels_take_other_images() -> None:
    images = torch.cat([random_images(), random_images(seed=2)], 1)
    assert explain(small_model(in_chans=6), images).heatmaps.shape == (2, 1, 4, 4)


@pytest.mark.parametrize("case", TARGETS)
def test_targets(case: str) -> None:
    targets, message = TARGETS[case]
    with pytest.raises(InputError, match=message):
        explain(small_model(), random_images(), targets)


def test_unknown_methods() -> None:
    with pytest.raises(InputError, match="unknown method 'gradcam\\+'; known are agcam, attention_gradcam, "):
        explain(small_model(), random_images(), method="gradcam+")
    assert methods()[0] == "agcam"


def test_targets_choose_the_maps() -> None:
    model, images = small_model(), random_images()
    everything = explain(model, images, "all")
    assert torch.equal(everything.targets, torch.arange(5).expand(2, 5))
    predicted = explain(model, images)
    assert torch.equal(predicted.targets, predicted.logits.argmax(1, keepdim=True))
    for targets in (3, torch.tensor([3, 1]), torch.tensor([[3, 0], [1, 1]])):
        found = explain(model, images, targets)
        expected = everything.heatmaps[torch.arange(2)[:, None], found.targets]
        assert error(found.heatmaps, expected) < 1e-5
    assert found.targets.tolist() == [[3, 0], [1, 1]]


def test_a_tape_without_a_forward_says_so() -> None:
    model = small_model()
    with Tape(model) as tape:
        model.forward_features(random_images())
    with pytest.raises(ModelError, match=r"no forward was recorded\. Call the model itself"):
        tape.recording  # noqa: B018  # reading it is what raises


def test_a_tape_on_a_forward_with_dropout_says_so() -> None:
    model = small_model(attn_drop_rate=0.5).train()
    with Tape(model), pytest.raises(ModelError, match=r"without dropout .*model\.eval\(\)"):
        model(random_images())


def test_a_tape_on_dictionary_input_says_so() -> None:
    model = small_model("naflexvit_base_patch16_gap")
    with Tape(model), pytest.raises(ModelError, match=r"images \(B, 3, H, W\), found dict"):
        model({"patches": torch.zeros(1, 4, 192)})


def test_a_model_in_training_mode_is_named_as_the_reason() -> None:
    """Dropout outside attention changes the replay, which then cannot reproduce the logits."""
    model = small_model(proj_drop_rate=0.5).train()
    with Tape(model) as tape, torch.no_grad():
        model(random_images())
    with pytest.raises(ModelError, match=r"in training mode, call model\.eval\(\) first"):
        explain_recording(tape.recording)


def test_a_forward_that_returns_no_logits_says_so() -> None:
    model = small_model("deit_tiny_distilled_patch16_224").train()
    model.set_distilled_training()
    message = r"returned tuple of 0 \(2, 5\), 1 \(2, 5\), not logits; .* training mode, call model\.eval\(\)"
    with Tape(model) as tape, pytest.raises(ModelError, match=message):
        model(random_images())
    with pytest.raises(ModelError, match="no forward was recorded"):
        tape.recording  # noqa: B018  # reading it is what raises


def test_a_tape_goes_on_after_a_forward_that_failed() -> None:
    model, images = small_model("vit_base_patch16_siglip_224"), random_images()
    features, model.head = model.head.in_features, nn.Linear(7, 5)
    with Tape(model) as tape, torch.no_grad():
        with pytest.raises(RuntimeError, match="shapes"):
            model(images)
        model.head = nn.Linear(features, 5)
        model(images)
    assert torch.equal(explain_recording(tape.recording).heatmaps, explain(model, images).heatmaps)
