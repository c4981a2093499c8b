"""`Explanation.to_fiftyone` makes real labels of FiftyOne, where that is installed."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import agcam
from agcam.errors import InputError
from agcam.explainers.explanation import Explanation
from agcam.explainers.model_info import ModelInfo
from explainers.small_models import random_images, small_model


@pytest.fixture(scope="module")
def found() -> Explanation:
    return agcam.explain(small_model(), random_images(), [[3, 1], [0, 4]])


@pytest.mark.skipif(find_spec("fiftyone") is not None, reason="FiftyOne is installed")
def test_without_fiftyone_it_says_what_to_install(found: Explanation) -> None:
    with pytest.raises(InputError, match="needs FiftyOne, which is not installed: pip install fiftyone"):
        found.to_fiftyone()


@pytest.mark.slow  # by hand: FiftyOne wants older versions than other extras
@pytest.mark.filterwarnings("ignore")  # of FiftyOne
def test_labels_hold_maps_names_and_probabilities(found: Explanation, tmp_path: Path) -> None:
    fiftyone = import_module("fiftyone")
    named = replace(found, model_info=ModelInfo(("wren", "robin", "heron", "gull", "tit")))
    labels = named.to_fiftyone()
    assert [[label.label for label in row] for row in labels] == [["gull", "robin"], ["wren", "tit"]]
    shares = found.logits.softmax(1)
    for row, targets in enumerate(found.targets.tolist()):
        for column, target in enumerate(targets):
            label = labels[row][column]
            assert isinstance(label, fiftyone.Heatmap)
            assert np.array_equal(label.get_map(), found.heatmaps[row, column].numpy())
            assert label.range == [0, pytest.approx(found.heatmaps[row, column].max().item())]
            assert label.confidence == pytest.approx(shares[row, target].item())
            assert label.method == "agcam"
    sample = fiftyone.Sample(filepath="a.png")
    sample["agcam"] = labels[0][0]
    sample["agcam"].export_map(str(tmp_path / "map.png"))
    assert (tmp_path / "map.png").stat().st_size
    signed = replace(found, heatmaps=found.heatmaps - 1e-3 - found.heatmaps.amin((2, 3), keepdim=True))
    assert signed.to_fiftyone()[0][0].range[0] == -signed.to_fiftyone()[0][0].range[1] < 0
    scored = replace(found, scored=True).to_fiftyone()
    assert (scored[0][0].label, scored[0][0].confidence) == ("score 3", None)
