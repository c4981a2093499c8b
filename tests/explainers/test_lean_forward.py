"""Rows of the last block that nobody reads are left out, where nobody can notice; else the forward is run whole."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from operations import Operations
from small_models import error, random_images, small_model
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from agcam import explain
from agcam.errors import InputError, ModelError
from agcam.explainers import lean_forward
from agcam.explainers.lean_forward import LeanModel, record_lean
from agcam.explainers.own_thread import answered
from agcam.explainers.recorder import record

WIDTH, BATCH = 48, 2
CLASS_TOKEN_FAMILIES = [
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "vit_base_patch16_clip_224",
    "vit_base_patch16_rope_224",
    "vit_small_patch16_36x1_224",
    "flexivit_small",
]


def operations(model: nn.Module, images: Tensor, lean: bool) -> int:
    with Operations() as counter, torch.inference_mode():
        if lean:
            record_lean(model, images)
        else:
            model(images)
    return counter.total


@pytest.mark.parametrize("family", CLASS_TOKEN_FAMILIES)
def test_what_is_recorded_is_that_of_a_whole_forward(family: str) -> None:
    model, images = small_model(family).double(), random_images().double()
    lean, whole = record_lean(model, images), record(model, images)
    torch.testing.assert_close(lean.logits, whole.logits)
    for one, other in zip(lean.calls, whole.calls, strict=True):
        for name, tensor in vars(other).items():
            if tensor is not None:
                torch.testing.assert_close(getattr(one, name), tensor)


@pytest.mark.parametrize("family", CLASS_TOKEN_FAMILIES)
def test_projections_and_mlp_of_unread_rows_are_not_computed(family: str) -> None:
    model, images = small_model(family, num_heads=1), random_images()
    record_lean(model, images)  # the first one is compared with a whole forward
    prefix = getattr(model, "num_prefix_tokens", 1)
    unread = 16 + prefix - (2 if "distilled" in family else 1)
    projection, mlp = WIDTH**2, 8 * WIDTH**2
    saved = 2 * BATCH * unread * (projection + mlp)
    scores = 2 * BATCH * 2 * WIDTH * (16 + prefix) * 3  # at most: the score rows that are kept, attention of rows
    spared = operations(model, images, lean=False) - operations(model, images, lean=True)
    assert saved - scores <= spared <= saved + 2 * BATCH * 2 * WIDTH * (16 + prefix) ** 2


def test_the_first_forward_is_compared_with_a_whole_one_and_later_ones_are_not() -> None:
    model, images = small_model(), random_images()
    first, later = operations(model, images, lean=True), operations(model, images, lean=True)
    assert first == later + operations(model, images, lean=False)
    assert operations(model, random_images(batch=1), lean=True) < later
    assert operations(model.double(), images.double(), lean=True) == first


@pytest.mark.parametrize("family", ["vit_base_patch16_gap_224", "vit_base_patch16_siglip_224", "cait_s24_224"])
def test_a_head_that_reads_all_tokens_gets_them(family: str) -> None:
    model, images = small_model(family).double(), random_images().double()
    torch.testing.assert_close(record_lean(model, images).logits, model(images), rtol=0, atol=0)


def test_somebodys_hook_sees_the_whole_forward() -> None:
    model, shapes = small_model(), []
    explain(model, random_images())

    def look(module: nn.Module, args: Any, output: Tensor) -> None:
        shapes.append(tuple(output.shape))

    handle = model.blocks[-1].mlp.register_forward_hook(look)
    explain(model, random_images())
    assert shapes[0] == (BATCH, 17, WIDTH)
    handle.remove()
    with_hooks = torch.nn.modules.module.register_module_forward_hook(lambda module, args, output: None)
    try:
        assert operations(model, random_images(), lean=True) == operations(model, random_images(), lean=False)
    finally:
        with_hooks.remove()


class ReadsAPatch(nn.Module):
    """A user's model whose head reads one patch's token of `forward_features`."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = small_model()
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.head(self.vit.forward_features(images)[:, 3])
        return tokens


def test_a_model_that_reads_another_row_is_run_whole() -> None:
    model, images = ReadsAPatch().eval(), random_images()
    torch.testing.assert_close(explain(model, images).logits, model(images))


@pytest.mark.parametrize("known", [False, True], ids=["at once", "after a comparison"])
def test_code_that_begins_to_read_another_row_is_never_explained_without_it(known: bool) -> None:
    model, images = small_model(), random_images()
    if known:
        explain(model, images)
    model.forward_head = lambda tokens: model.head(tokens.mean(1))
    with pytest.raises(ModelError, match="logits differ"):
        explain(model, images)


def test_a_row_that_depends_on_others_beyond_attention_is_never_explained_without_them() -> None:
    model, images = small_model(), random_images()
    explain(model, images)
    mlp = model.blocks[-1].mlp
    mlp.forward = lambda tokens: type(mlp).forward(mlp, tokens) + tokens.mean(1, keepdim=True)
    with pytest.raises(ModelError, match="logits differ"):
        explain(model, images)


def test_maps_do_not_depend_on_what_was_explained_before() -> None:
    model, images = small_model(), random_images()
    first, again = explain(model, images, "all"), explain(model, images, "all")
    assert torch.equal(first.heatmaps, again.heatmaps)
    assert torch.equal(first.logits, again.logits)


def test_a_model_is_not_kept_alive_by_its_comparison() -> None:
    import gc
    import weakref

    model = small_model()
    explain(model, random_images())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_half_precision_and_autocast_are_explained_as_before() -> None:
    model, images = small_model(), random_images()
    expected = explain(model, images, 1).heatmaps
    with torch.autocast("cpu", torch.bfloat16):
        found = explain(model, images, 1).heatmaps
    assert error(found, expected) < 0.1


def test_methods_asked_at_once_share_one_forward_and_equal_those_asked_alone() -> None:
    model, images = small_model(), random_images()
    names = ["agcam", "raw_attention", "contrast_cam", "attention_gradcam", "rollout", "center"]
    record_lean(model, images)
    with Operations() as together:
        found = explain(model, images, [1, 2], methods=names[:4])
    with Operations() as one:
        explain(model, images, [1, 2], method="raw_attention")
    assert together.total < 2 * one.total
    found = explain(model, images, [1, 2], methods=names)
    assert list(found) == names
    for name, explanation in found.items():
        alone = explain(model, images, [1, 2], method=name)
        torch.testing.assert_close(explanation.heatmaps, alone.heatmaps, rtol=1e-5, atol=1e-6)
        assert explanation.method == name


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"methods": "agcam"}, "methods must be a list of methods"),
        ({"methods": []}, "methods must be a list of methods"),
        ({"methods": ["agcam"], "method": "rollout"}, "goes with no method='rollout'"),
        ({"methods": ["agcam"], "feature_map": "softmax"}, "goes with no feature_map"),
        ({"methods": ["agcam", "grad"]}, "unknown method 'grad'"),
    ],
)
def test_methods_that_make_no_sense_are_refused(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        explain(small_model(), random_images(), **asked)


def test_perturbation_metrics_run_a_lean_model_with_the_same_logits() -> None:
    model, images = small_model(), random_images()
    lean = LeanModel(model).eval()
    with torch.no_grad():
        torch.testing.assert_close(lean(images), model(images))  # the first one is compared
        with Operations() as counted:
            lean(images)
        with Operations() as whole:
            model(images)
    assert counted.total < whole.total


class FusedAttention(TorchFunctionMode):
    """Counts the calls of `scaled_dot_product_attention` that reach torch."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        self.calls += func is torch.nn.functional.scaled_dot_product_attention
        return func(*args, **(kwargs or {}))


def test_a_lean_model_lets_other_blocks_attend_as_they_were_told() -> None:
    model, images = small_model(), random_images()
    for block in model.blocks:
        block.attn.fused_attn = False
    lean = LeanModel(model)
    expected = lean(images)  # the first one is compared
    with FusedAttention() as fused:
        torch.testing.assert_close(lean(images), expected)
    assert fused.calls <= 1
    assert not any(block.attn.fused_attn for block in model.blocks)


def test_a_lean_model_computes_in_bfloat16_if_asked_and_leaves_others_their_precision() -> None:
    model, images = small_model(), random_images()
    with torch.no_grad():
        half = LeanModel(model, "bf16")(images)
        with torch.autocast("cpu", torch.bfloat16):
            told = LeanModel(model)(images)
    assert half.dtype == told.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), model(images), rtol=0.05, atol=0.05)
    assert LeanModel(model)(images).dtype == torch.float32


@pytest.mark.parametrize("kind", [ReadsAPatch, lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))])
def test_a_lean_model_runs_any_other_as_it_is(kind: Any) -> None:
    model, images = kind().eval(), random_images()
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(LeanModel(model)(images), model(images))


def test_another_threads_answers_are_no_reason_to_compare_again() -> None:
    model, images = small_model(), random_images()
    explain(model, images)
    asked, done = threading.Event(), threading.Event()

    def answer_in_this_thread() -> None:
        with answered(model.blocks[-1], "forward", lambda tokens: tokens):
            asked.set()
            done.wait(60)

    other = threading.Thread(target=answer_in_this_thread)
    other.start()
    asked.wait(60)
    explain(model, images)
    done.set()
    other.join()
    assert len(lean_forward._compared[model]) == 1
