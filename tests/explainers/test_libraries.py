"""ViTs of transformers, torchvision and open_clip: the maps are those of the plain definition."""

from __future__ import annotations

import pytest
import torch
from eager_libraries import eager_maps
from library_models import CASES
from small_models import CLASSES, GRID, error, random_images

from agcam import explain


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("family", CASES)
def test_maps_equal_the_definition(family: str) -> None:
    case = CASES[family]
    model, images = case.model(), random_images()
    explanation = explain(model, images, "all", score=case.score)
    expected, logits = eager_maps(model, images, case.read, CLASSES, GRID)
    torch.testing.assert_close(explanation.logits, logits, rtol=1e-5, atol=1e-5)
    # classes and images apart, so that a mixed-up axis shows
    assert expected.amax((2, 3)).min() > 1e-4
    assert expected.flatten(0, 1).std(0).min() > 1e-4
    assert error(explanation.heatmaps, expected) < 1e-5
    # nothing made in inference mode may stay in the model: autograd would refuse it
    case.read(model.train()(images)).sum().backward()
