"""Some images of a recording are explained as they are among the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch

from agcam.explainers.explain import explain_recording
from agcam.explainers.recorder import record
from agcam.explainers.some_images import of_images


@pytest.mark.parametrize("dimensions", [3, 4])
def test_a_bias_for_all_images_is_kept_where_there_are_as_many_heads_as_images(dimensions: int) -> None:
    torch.manual_seed(0)
    model = timm.create_model(
        "beit_base_patch16_224", img_size=64, embed_dim=24, depth=2, num_heads=3, num_classes=5
    ).eval()
    for block in model.blocks:
        torch.nn.init.normal_(block.attn.relative_position_bias_table)
    recording = record(model, torch.randn(3, 3, 64, 64))
    assert recording.calls[0].bias is not None
    if dimensions == 3:
        calls = [replace(call, bias=call.bias[0]) for call in recording.calls if call.bias is not None]
        recording = replace(recording, calls=calls)
    targets = torch.tensor([[0], [3], [1]])
    whole = explain_recording(recording, targets).heatmaps
    some = explain_recording(of_images(recording, torch.tensor([1])), targets[1:2]).heatmaps
    size = whole.abs().max()  # a million times smaller than 1, which a plain tolerance would not see
    torch.testing.assert_close(some / size, whole[1:2] / size)
