"""Backbones in what others save: under prefixes, in dictionaries, beside a teacher or an average."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from agcam.errors import ModelError
from agcam.training.weights import load_weights

ARGS = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 4}
State = dict[str, Tensor]


def backbone(seed: int = 0, **changes: Any) -> nn.Module:
    torch.manual_seed(seed)
    model = timm.create_model("vit_tiny_patch16_224", **(ARGS | changes))
    for parameter in model.parameters():  # fresh ones are zeros and ones in places
        nn.init.normal_(parameter)
    return model


def under(prefix: str, state: State, **more: Tensor) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()} | more


def loaded(content: Any, path: Path, **changes: Any) -> State:
    if path.suffix == ".safetensors":
        save_file({name: value.clone() for name, value in content.items()}, path)
    else:
        torch.save(content, path)
    model = backbone(9, **changes)
    load_weights(model, path)
    return model.state_dict()


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


PREFIXES = ["model.", "net.", "_orig_mod.", "module.", "module.model._orig_mod.", "teacher.backbone.", "a.b.c.d.e."]


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_one_prefix_is_found_whatever_it_is(prefix: str, suffix: str, tmp_path: Path) -> None:
    weights = backbone().state_dict()
    more = {"loss.weight": torch.ones(3), f"{prefix[:-1]}_too.weight": torch.ones(2)}
    assert equal(loaded(under(prefix, weights, **more), tmp_path / f"w.{suffix}"), weights)


@pytest.mark.parametrize(
    "keys", [["state_dict"], ["model"], ["net"], ["checkpoint", "model_state_dict"], ["model_ema"]]
)
def test_dictionaries_are_searched(keys: list[str], tmp_path: Path) -> None:
    weights = backbone().state_dict()
    content: dict[str, Any] = under("module.", weights)
    for key in reversed(keys):
        content = {"epoch": 3, key: content, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}
    assert equal(loaded(content, tmp_path / "w.pth"), weights)


def own(state: State, raw: State) -> dict[str, dict[str, Any]]:
    """Files of several candidates, of which `state` is to be taken."""
    return {
        "DINO": {
            "student": under("module.backbone.", raw, **{"module.head.mlp.0.weight": torch.ones(2)}),
            "teacher": under("backbone.", state, **{"head.mlp.0.weight": torch.ones(2)}),
            "dino_loss": {"center": torch.ones(1, 5)},
        },
        "names": under("student.backbone.", raw) | under("teacher.backbone.", state),
        "timm": {"state_dict": raw, "state_dict_ema": state, "metric": 71.5},
        "DeiT": {"model": raw, "model_ema": state},
        "Lightning": {
            "state_dict": under("backbone.", state),
            "current_model_state": under("backbone.", raw),
        },
        "MoCo": under("module.encoder_k.", raw) | under("module.encoder_q.", state),
    }


@pytest.mark.parametrize("kind", ["DINO", "names", "timm", "DeiT", "Lightning", "MoCo"])
def test_of_several_the_one_that_is_evaluated_is_taken_and_the_log_says_so(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights, raw = backbone(1).state_dict(), backbone(2).state_dict()
    with caplog.at_level(logging.WARNING):
        assert equal(loaded(own(weights, raw)[kind], tmp_path / "w.pth"), weights)
    (said,) = [r.message for r in caplog.records]
    taken, others = {
        "DINO": ("teacher.backbone.*", "student.module.backbone.*"),
        "names": ("teacher.backbone.*", "student.backbone.*"),
        "timm": ("state_dict_ema.*", "state_dict.*"),
        "DeiT": ("model_ema.*", "model.*"),
        "Lightning": ("state_dict.backbone.*", "current_model_state.backbone.*"),
        "MoCo": ("module.encoder_q.*", "module.encoder_k.*"),
    }[kind]
    assert said == f"{tmp_path / 'w.pth'}: weights '{taken}' are taken; there are also '{others}'"


def test_a_larger_teacher_does_not_stand_in_for_the_student_that_fits(tmp_path: Path) -> None:
    weights, teacher = backbone(1).state_dict(), backbone(2, embed_dim=64, depth=3).state_dict()
    assert equal(loaded({"teacher": teacher, "student": weights}, tmp_path / "w.pth"), weights)


def test_a_prefix_and_another_size_and_head_go_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = backbone(1, img_size=48, num_classes=7).state_dict()
    with caplog.at_level(logging.WARNING):
        found = loaded({"model": under("module.net.", weights)}, tmp_path / "w.pth")
    expected = timm.layers.resample_abs_pos_embed(weights["pos_embed"], (4, 4), num_prefix_tokens=1)
    assert torch.allclose(found["pos_embed"], expected, atol=1e-6)
    assert torch.equal(found["blocks.1.attn.qkv.weight"], weights["blocks.1.attn.qkv.weight"])
    assert found["head.weight"].shape == (4, 32)
    assert "the head (head.bias, head.weight) does not fit" in caplog.text


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": under("module.", s)}])
def test_names_of_the_authors_go_through_timms_filter(wrap: Callable[[State], Any], tmp_path: Path) -> None:
    """As MAE and DINOv2 are named alike but for their register tokens, and OpenAI's CLIP not at all."""
    args = {"patch_size": 14, "num_classes": 0, "init_values": 1e-5, "reg_tokens": 4, "no_embed_class": True}
    args |= {"img_size": 28}
    weights = backbone(1, **args).state_dict()
    theirs = {name.replace("reg_token", "register_tokens"): value for name, value in weights.items()}
    theirs["pos_embed"] = torch.cat([torch.zeros(1, 1, 32), weights["pos_embed"]], dim=1)
    theirs["cls_token"] = weights["cls_token"]
    theirs["mask_token"] = torch.zeros(1, 32)
    assert equal(loaded(wrap(theirs), tmp_path / "w.pth", **args), weights)


def test_weights_of_something_else_are_named_by_what_their_names_begin_with(tmp_path: Path) -> None:
    state = {f"encoder.layer.{n}.dense.weight": torch.ones(2, 2) for n in range(3)} | {"decoder.bias": torch.ones(2)}
    with pytest.raises(ModelError, match=r"weights do not fit VisionTransformer.*Its names begin with encoder\. \(3\)"):
        loaded({"state_dict": state}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"begin with encoder\. \(3\), decoder\. \(1\)\. Are model\.backbone and"):
        loaded({"model": under("module.", state)}, tmp_path / "w.pth")


def test_a_model_of_fewer_blocks_is_not_taken_for_part_of_a_deeper_one(tmp_path: Path) -> None:
    deep = backbone(1, depth=3).state_dict()
    with pytest.raises(ModelError, match=r"12 weights do not fit VisionTransformer; 'blocks\.2\.attn\.proj\.bias'"):
        loaded(under("net.", deep), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"12 weights do not fit VisionTransformer; 'blocks\.2\.attn\.proj\.bias'"):
        loaded(under("net.", backbone(1).state_dict()), tmp_path / "w.pth", depth=3)


def test_dictionaries_that_contain_each_other_and_endless_names_cost_nothing(tmp_path: Path) -> None:
    weights = backbone().state_dict()
    content: dict[str, Any] = {"x": weights, "." * 10**6: torch.ones(1)}
    content |= {str(n): content for n in range(2000)}
    assert equal(loaded(content, tmp_path / "w.pth"), weights)
