"""Quantus calls any method through `agcam.explain_for_quantus`."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch

import agcam
from agcam.errors import InputError
from explainers.small_models import CLASSES, random_images, small_model


@pytest.mark.parametrize(("method", "options"), [("agcam", {}), ("rollout", {"head_fusion": "max"}), ("gradcam", {})])
def test_it_gives_the_heatmaps_at_the_size_of_the_images(method: str, options: dict[str, str]) -> None:
    model, images, targets = small_model(), random_images(), torch.tensor([3, 1])
    expected = agcam.explain(model, images, targets, method, **options).upsample().numpy()
    # by keyword, double precision and the device's name, as Quantus does
    given = {"inputs": images.double().numpy(), "targets": targets.numpy(), "device": "cuda:7", "method": method}
    found = agcam.explain_for_quantus(model=model, **given, **options)
    assert type(found) is np.ndarray
    assert (found.shape, found.dtype) == ((2, 1, 32, 32), np.float32)
    assert np.array_equal(found, expected)


def test_the_default_is_agcam_and_errors_are_those_of_explain() -> None:
    model, images = small_model().double(), random_images()
    found = agcam.explain_for_quantus(model, images.numpy(), np.array([3.0, 1.0]))
    assert np.allclose(found, agcam.explain(model, images.double(), [3, 1]).upsample().numpy())
    with pytest.raises(InputError, match=r"target 5 is out of range: the model has classes 0 … 4"):
        agcam.explain_for_quantus(model, images.numpy(), np.array([0, CLASSES]))


@pytest.mark.slow  # by hand: Quantus brings an opencv-python that replaces files of ours
@pytest.mark.filterwarnings("ignore")  # of Quantus
def test_real_metrics_of_quantus_take_it() -> None:
    quantus = import_module("quantus")
    model, images = small_model(), random_images(batch=4)
    targets = model(images).argmax(1).numpy()
    quiet = {"display_progressbar": False, "disable_warnings": True}
    metrics = {
        "sparseness": quantus.Sparseness(**quiet),
        "pixel flipping": quantus.PixelFlipping(features_in_step=256, **quiet),
        "max sensitivity": quantus.MaxSensitivity(nr_samples=2, **quiet),
        "randomised layers": quantus.MPRT(return_average_correlation=True, **quiet),
    }
    names = ["agcam", "rollout", "raw_attention"]
    found = quantus.evaluate(
        metrics,
        xai_methods=dict.fromkeys(names, agcam.explain_for_quantus),
        model=model,
        x_batch=images.numpy(),
        y_batch=targets,
        explain_func_kwargs={},
    )
    assert found.keys() == set(names)
    for name in names:
        for metric, scores in found[name].items():
            assert len(scores) == 4, metric
            assert np.isfinite(np.array(scores, dtype=float)).all(), metric
    assert found["agcam"]["sparseness"] != found["rollout"]["sparseness"]
