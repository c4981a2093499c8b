"""What holds for every method: shapes, state, switched-off autograd, precision, recordings."""

from __future__ import annotations

import pytest
import torch
from small_models import GRID, error, random_images, small_model
from test_state import state, training_model

from agcam import explain, methods
from agcam.errors import ModelError
from agcam.explainers.explain import explain_recording
from agcam.explainers.recorder import Tape, record

OPTIONS = {"integrated_gradients": {"steps": 4}}  # a pass each
METHODS = [name for name in methods() if name != "agcam"]


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_float32_one_a_target(method: str) -> None:
    model, images = small_model(), random_images()
    everything = explain(model, images, "all", method=method, **OPTIONS.get(method, {}))
    assert everything.heatmaps.shape == (2, 5, *GRID)
    assert everything.heatmaps.dtype == torch.float32
    some = explain(model, images, torch.tensor([[3, 0], [1, 1]]), method=method, **OPTIONS.get(method, {}))
    if method != "random":
        expected = everything.heatmaps[torch.arange(2)[:, None], some.targets]
        torch.testing.assert_close(some.heatmaps, expected, rtol=1e-4, atol=1e-6)
    predicted = explain(model, images, method=method, **OPTIONS.get(method, {}))
    assert torch.equal(predicted.targets, predicted.logits.argmax(1, keepdim=True))
    torch.testing.assert_close(predicted.logits, model(images))


@pytest.mark.parametrize("method", METHODS)
def test_a_model_in_training_is_left_as_it_was(method: str) -> None:
    model, images = training_model(), random_images()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    before, rng = state(model), torch.get_rng_state()
    first = explain(model, images, "all", method=method, **OPTIONS.get(method, {}))
    second = explain(model, images, "all", method=method, **OPTIONS.get(method, {}))
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(p.grad, gradients[n]) for n, p in model.named_parameters() if p.grad is not None)
    assert torch.equal(first.heatmaps, second.heatmaps)
    assert not images.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("method", METHODS)
def test_under_switched_off_autograd(method: str, mode: type) -> None:
    model, images = small_model(), random_images()
    expected = explain(model, images, "all", method=method, **OPTIONS.get(method, {})).heatmaps
    model.requires_grad_(False)
    with mode():
        explanation = explain(model, images.clone(), "all", method=method, **OPTIONS.get(method, {}))
        recording = record(model, images.clone())
        again = explain_recording(recording, "all", method, **OPTIONS.get(method, {})).heatmaps
    for found in (explanation.heatmaps, again):
        torch.testing.assert_close(found, expected)
        assert not found.is_inference()
        assert not found.requires_grad
    assert not explanation.logits.requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_a_model_made_in_inference_mode(method: str) -> None:
    images = random_images()
    expected = explain(small_model(), images, "all", method=method, **OPTIONS.get(method, {})).heatmaps
    with torch.inference_mode():
        model = small_model()
    torch.testing.assert_close(
        explain(model, images, "all", method=method, **OPTIONS.get(method, {})).heatmaps, expected
    )


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_is_near_single(method: str) -> None:
    model, images = small_model().bfloat16(), random_images().bfloat16()
    found = explain(model, images, "all", method=method, **OPTIONS.get(method, {})).heatmaps
    expected = explain(model.float(), images.float(), "all", method=method, **OPTIONS.get(method, {})).heatmaps
    assert (found - expected).abs().max() <= 0.1 * expected.abs().max()
    with torch.autocast("cpu", dtype=torch.bfloat16), Tape(model) as tape:
        model(images.float())
    again = explain_recording(tape.recording, "all", method, **OPTIONS.get(method, {})).heatmaps
    assert (again - expected).abs().max() <= 0.1 * expected.abs().max()


# the other three read no logits
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("random", "center", "raw_attention")])
def test_a_model_whose_logits_are_not_finite_is_refused(method: str) -> None:
    model = small_model()
    with torch.no_grad():
        model.head.bias.fill_(torch.nan)
    with pytest.raises(ModelError, match="logits are not finite"):
        explain(model, random_images(), 1, method=method, **OPTIONS.get(method, {}))


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("random", "center")])
def test_maps_of_two_images_differ(method: str) -> None:
    found = explain(small_model(), random_images(), 1, method=method, **OPTIONS.get(method, {})).heatmaps
    assert error(found[:1].abs(), found[1:].abs()) > 1e-3


# these replay the model in the mode that they find, as agcam does
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("attention_gradcam", "contrast_cam")])
def test_a_recording_is_explained_when_its_model_trains_again(method: str) -> None:
    model, images = training_model(), random_images()
    expected = explain(model, images, 1, method=method, **OPTIONS.get(method, {})).heatmaps
    recording = record(model.eval(), images)
    torch.testing.assert_close(explain_recording(recording, 1, method, **OPTIONS.get(method, {})).heatmaps, expected)
    before = state(model.train())
    torch.testing.assert_close(explain_recording(recording, 1, method, **OPTIONS.get(method, {})).heatmaps, expected)
    assert state(model) == before
