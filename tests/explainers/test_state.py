"""`explain` leaves the model, autograd and the random number generators exactly as it found them."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from small_models import random_images, small_model
from torch import Tensor, nn

from agcam import explain
from agcam.errors import AgcamError

HOOKS = [name for name in vars(nn.Module()) if name.endswith(("_hooks", "_hooks_with_kwargs", "_always_called"))]


def state(model: nn.Module) -> dict[str, Any]:
    """Everything that a careless tool could leave changed."""
    modules = dict(model.named_modules())
    return {
        "modes": {name: module.training for name, module in modules.items()},
        "hooks": {(name, kind): dict(getattr(module, kind)) for name, module in modules.items() for kind in HOOKS},
        "attributes": {
            name: {key: value for key, value in vars(module).items() if isinstance(value, bool | int | float | str)}
            for name, module in modules.items()
        },
        "parameters": {
            name: (id(parameter), parameter._version, parameter.requires_grad)
            for name, parameter in model.named_parameters()
        },
        "gradients": {
            name: None if parameter.grad is None else (id(parameter.grad), parameter.grad._version)
            for name, parameter in model.named_parameters()
        },
        "buffers": {name: (id(buffer), buffer._version) for name, buffer in model.named_buffers()},
        "autograd": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
    }


def training_model() -> nn.Module:
    """In training mode with dropout and drop path; a part in evaluation mode, a part frozen; gradients, hooks."""
    model = small_model(
        drop_rate=0.1,
        pos_drop_rate=0.1,
        patch_drop_rate=0.1,
        proj_drop_rate=0.1,
        attn_drop_rate=0.1,
        drop_path_rate=0.1,
    ).train()
    model.blocks[0].mlp.eval()
    model.patch_embed.requires_grad_(False)
    model.blocks[1].attn.fused_attn = False
    model.blocks[0].register_forward_hook(lambda module, args, output: None)
    model.head.register_full_backward_hook(lambda module, into, out: None)
    model(random_images()).sum().backward()
    return model


@pytest.mark.parametrize("gradient", ["skip", "full"])
@pytest.mark.parametrize("classes", [2, "all"])
def test_a_model_in_training_is_left_as_it_was(gradient: str, classes: int | str) -> None:
    model, images = training_model(), random_images()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    before, torch_rng, python_rng = state(model), torch.get_rng_state(), random.getstate()

    first = explain(model, images, classes, gradient=gradient)
    second = explain(model, images, classes, gradient=gradient)

    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), torch_rng)
    assert random.getstate() == python_rng
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert gradients.keys() == {n for n, p in model.named_parameters() if p.grad is not None}
    assert all(torch.equal(p.grad, gradients[n]) for n, p in model.named_parameters() if p.grad is not None)
    # no dropout took part
    assert torch.equal(first.heatmaps, second.heatmaps)
    assert not images.requires_grad


@pytest.mark.parametrize("broken", ["target", "model"])
def test_a_failed_call_leaves_the_model_as_it_was(broken: str) -> None:
    model = training_model()
    if broken == "model":
        with torch.no_grad():
            model.head.bias.fill_(torch.nan)
    before = state(model)
    with pytest.raises(AgcamError):
        explain(model, random_images(), 99 if broken == "target" else None)
    assert state(model) == before


def test_a_forward_that_fails_leaves_the_model_as_it_was() -> None:
    model = training_model()

    def refuse(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        raise ArithmeticError("a forward's own error")

    model.blocks[1].register_forward_pre_hook(refuse)
    before = state(model)
    with pytest.raises(ArithmeticError, match="a forward's own error"):
        explain(model, random_images())
    assert state(model) == before


def test_training_goes_on_as_if_nothing_had_been_explained() -> None:
    losses = []
    for explaining in (False, True):
        torch.manual_seed(0)
        model = small_model(drop_path_rate=0.2, proj_drop_rate=0.2).train()
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(3):
            loss = model(random_images()).square().mean()
            optimizer.zero_grad()
            loss.backward()
            if explaining:
                explain(model, random_images(), "all")
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == losses[1]
