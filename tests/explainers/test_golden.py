"""Parity with the AG-CAM authors' published code, by figures that it computed (tests/data/vit_*.safetensors)."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from small_models import error
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from agcam import explain

DATA = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("name", ["vit_64_p8", "vit_96_p16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_maps_of_every_class_equal_the_authors(name: str, dtype: torch.dtype) -> None:
    with safe_open(DATA / f"{name}.safetensors", "pt") as file:
        golden = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # safetensors' own method
        arguments = json.loads(file.metadata()["model"])
    norm = partial(nn.LayerNorm, eps=arguments.pop("norm_eps"))
    model = VisionTransformer(**arguments, norm_layer=norm).eval()
    model.load_state_dict({key.removeprefix("model."): t for key, t in golden.items() if key.startswith("model.")})
    explanation = explain(model.to(dtype), golden["input"].to(dtype), "all")
    torch.testing.assert_close(explanation.logits.float(), golden["logits"], rtol=1e-4, atol=1e-4)
    assert error(explanation.heatmaps, golden["agcam_all"]) < 1e-5
