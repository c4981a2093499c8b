"""What an explanation costs, in counts: forwards, backward passes, tokens replayed, operations, bytes kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from operations import Operations
from small_models import random_images, small_model
from torch import Tensor, nn

import agcam.explainers.skip_gradients as skip_gradients
from agcam import explain
from agcam.explainers.recorder import record
from agcam.explainers.recording import Recording

BATCH, WIDTH, DEPTH, HEADS, FLOAT = 2, 48, 2, 3, 4


@dataclass
class Counts:
    """Calls of the model, tokens that passed each block, backward passes that reached the logits."""

    forwards: int = 0
    backwards: int = 0
    tokens: list[int] = field(default_factory=list)


def count(model: nn.Module) -> Counts:
    counts = Counts()

    def forward(module: nn.Module, args: Any) -> None:
        counts.forwards += 1

    def backward(gradient: Tensor) -> None:
        counts.backwards += 1

    def block(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        counts.tokens.append(args[0].shape[0] * args[0].shape[1])

    def head(module: nn.Module, args: Any, logits: Tensor) -> None:
        if logits.requires_grad:
            logits.register_hook(backward)

    model.patch_embed.register_forward_pre_hook(forward)
    model.blocks[0].register_forward_pre_hook(block)
    model.head.register_forward_hook(head)
    return counts


@pytest.mark.parametrize("classes", [3, torch.tensor([[1, 2], [0, 4]]), "all"], ids=str)
@pytest.mark.parametrize(
    ("family", "all_tokens", "rows"),
    [
        ("vit_tiny_patch16_224", 17, 1),
        ("deit_tiny_distilled_patch16_224", 18, 2),
        ("vit_small_patch14_reg4_dinov2", 21, 1),
        ("vit_base_patch16_gap_224", 16, 16),
    ],
)
def test_one_forward_one_backward_and_only_the_rows_that_the_head_reads(
    family: str, all_tokens: int, rows: int, classes: Any
) -> None:
    model = small_model(family)
    counts = count(model)
    explain(model, random_images(), classes)
    assert counts.forwards == 1
    assert counts.tokens == [BATCH * all_tokens, BATCH * rows]
    assert counts.backwards == 1


def test_map_pooling_runs_no_block_twice() -> None:
    model = small_model("vit_base_patch16_siglip_224")
    counts = count(model)
    explain(model, random_images(), "all")
    assert (counts.forwards, counts.tokens, counts.backwards) == (1, [BATCH * 16], 1)


def test_many_classes_go_through_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    expected = explain(model, random_images(), "all").heatmaps
    counts = count(model)
    two_classes = 2 * BATCH * (WIDTH * DEPTH + HEADS * 17)  # gradients by o, and one block's by A
    monkeypatch.setattr(skip_gradients, "_ELEMENTS_PER_PASS", two_classes)
    torch.testing.assert_close(explain(model, random_images(), "all").heatmaps, expected)
    assert (counts.forwards, len(counts.tokens), counts.backwards) == (1, 2, 3)


def test_the_full_gradient_takes_a_second_forward_and_a_backward_for_each_class() -> None:
    model = small_model()
    counts = count(model)
    explain(model, random_images(), "all", gradient="full")
    assert (counts.forwards, counts.backwards) == (2, 5)


def operations(model: nn.Module, images: Tensor, explaining: bool) -> int:
    with Operations() as counter:
        if explaining:
            explain(model, images, 3)
        else:
            with torch.inference_mode():
                model(images)
    return counter.total


def test_a_class_token_costs_fewer_operations_than_a_plain_forward() -> None:
    model, images = small_model(img_size=64), random_images(64, 64)
    explain(model, images)  # the first explanation of a model is compared with a whole forward
    left_out = 2 * BATCH * 64 * 9 * WIDTH**2  # projection and MLP of the other rows in the last block
    replayed = BATCH * DEPTH * 9 * WIDTH**2  # the row's projection and MLP; no query, key or value
    head = BATCH * WIDTH * 5
    scores_and_gradient = 2 * BATCH * DEPTH * 65 * WIDTH
    most = 2 * (2 * (replayed + head) + scores_and_gradient)  # forward and backward; two operations a product
    extra = operations(model, images, explaining=True) - operations(model, images, explaining=False)
    assert extra <= most - left_out < 0


def matrix(recording: Recording) -> int:
    return BATCH * recording.calls[0].value.shape[2] * WIDTH * FLOAT


def test_a_class_token_keeps_the_values_alone() -> None:
    recording = record(small_model(img_size=64), random_images(64, 64))
    row, scores = BATCH * WIDTH * FLOAT, BATCH * HEADS * 65 * FLOAT
    assert recording.nbytes == row + DEPTH * (matrix(recording) + row + scores)


def test_pooled_tokens_keep_queries_keys_values_and_outputs() -> None:
    recording = record(small_model("vit_base_patch16_gap_224", img_size=64), random_images(64, 64))
    assert recording.nbytes == matrix(recording) * (1 + DEPTH * 4)


def test_map_pooling_keeps_nothing_of_the_blocks() -> None:
    recording = record(small_model("vit_base_patch16_siglip_224", img_size=64), random_images(64, 64))
    row, scores = BATCH * WIDTH * FLOAT, BATCH * HEADS * 64 * FLOAT
    assert recording.nbytes == row + matrix(recording) + row + scores


def test_half_precision_keeps_half_the_bytes() -> None:
    model, images = small_model(), random_images()
    full = record(model, images).nbytes
    assert record(model.bfloat16(), images.bfloat16()).nbytes == full / 2
