"""Forwards of small models are explained together; each heatmap is what it is alone."""

from __future__ import annotations

import pytest
import torch
from small_models import random_images, small_model

from agcam import methods
from agcam.errors import InputError
from agcam.explainers.explain import explain_recording
from agcam.explainers.joined import join_recordings, joinable
from agcam.explainers.recorder import record

FAMILIES = [
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "vit_base_patch16_siglip_gap_224",
    "cait_xxs24_224",
]


@pytest.mark.parametrize("family", FAMILIES)
def test_joined_forwards_give_the_maps_that_each_gives_alone(family: str) -> None:
    model = small_model(family)
    alone = [record(model, random_images(batch=batch, seed=batch)) for batch in (3, 1, 2)]
    joined = explain_recording(join_recordings(alone), "all").heatmaps
    expected = torch.cat([explain_recording(recording, "all").heatmaps for recording in alone])
    torch.testing.assert_close(joined, expected, rtol=0, atol=1e-5 * float(expected.max()))


@pytest.mark.parametrize("method", methods())
def test_every_method_explains_joined_forwards(method: str) -> None:
    model = small_model()
    alone = [record(model, random_images(batch=batch, seed=batch)) for batch in (2, 1)]
    options = {"steps": 4} if method == "integrated_gradients" else {}
    joined = explain_recording(join_recordings(alone), 1, method, **options).heatmaps
    expected = torch.cat([explain_recording(recording, 1, method, **options).heatmaps for recording in alone])
    torch.testing.assert_close(joined, expected, rtol=1e-4, atol=1e-6)


def test_forwards_of_another_size_or_model_are_not_joined() -> None:
    model = small_model(dynamic_img_size=True)
    small, large = record(model, random_images()), record(model, random_images(48, 48))
    assert not joinable(small, large)
    assert not joinable(small, record(small_model(dynamic_img_size=True), random_images()))
    with pytest.raises(InputError, match="one image size"):
        join_recordings([small, large])
    with pytest.raises(InputError, match="one image size"):
        join_recordings([])


def test_forwards_with_an_attention_bias_are_not_joined() -> None:
    model = small_model("vit_relpos_small_patch16_224")
    one, other = record(model, random_images(batch=1)), record(model, random_images(batch=1))
    biased = any(call.bias is not None for call in one.calls)
    assert joinable(one, other) is not biased
    assert join_recordings([one]) is one
