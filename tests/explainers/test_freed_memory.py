"""What a forward leaves for its explanation is freed with it, not when garbage is collected some time later."""

import gc
import weakref

import pytest
import timm
import torch

import agcam
from agcam.explainers.lean_forward import LeanModel, record_lean
from agcam.explainers.recorder import record


@pytest.fixture
def model():
    return timm.create_model("vit_tiny_patch16_224", depth=2, img_size=64, num_classes=5).eval()


@pytest.mark.parametrize("recorded", [record, record_lean])
def test_a_recording_ends_with_its_last_name(model, recorded):
    images = torch.randn(2, 3, 64, 64)
    recorded(model, images)
    gc.disable()
    try:
        recording = recorded(model, images)
        value = weakref.ref(recording.calls[0].value)
        del recording
        assert value() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("run", [*agcam.methods(), "lean logits"])
def test_explaining_leaves_no_tensor_to_the_garbage_collector(model, run):
    images = torch.randn(2, 3, 64, 64)
    lean = LeanModel(model)

    def once():
        if run == "lean logits":
            lean(images)
        else:
            agcam.explain(model, images, method=run)

    once()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        once()
        gc.collect()
        assert not [found for found in gc.garbage if isinstance(found, torch.Tensor)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
