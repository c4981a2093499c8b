"""AG-CAM by its definition for ViTs of other libraries: each softmax of attention kept, one autograd pass a class."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ATTENTION = ("attention", "self_attention", "self_attn", "attn")


class Softmaxes(TorchFunctionMode):
    """Keeps what goes into each softmax over keys, S, and what comes out, A; both are part of the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:  # of libraries that have no other way
            query, key, value = args[:3]
            scores = query @ key.mT / query.shape[-1] ** 0.5
            if kwargs.get("attn_mask") is not None:
                scores = scores + kwargs["attn_mask"].detach()
            matrix = scores.softmax(-1)
            self.kept.append((scores, matrix))
            return matrix @ value
        out = func(*args, **kwargs)
        if func in (F.softmax, torch.softmax) and out.dim() == 4:
            self.kept.append((args[0], out))
        return out


class PlainMultihead(nn.Module):
    """What `nn.MultiheadAttention` computes, in the open."""

    def __init__(self, module: nn.MultiheadAttention) -> None:
        super().__init__()
        self.module = module

    def forward(self, query: Tensor, key: Tensor, value: Tensor, **_: Any) -> tuple[Tensor, None]:
        m = self.module
        if m.in_proj_weight is None:
            weights = [m.q_proj_weight, m.k_proj_weight, m.v_proj_weight]
        else:
            weights = m.in_proj_weight.chunk(3)
        biases = m.in_proj_bias.chunk(3)
        tokens = [query, key, value] if m.batch_first else [t.transpose(0, 1) for t in (query, key, value)]
        q, k, v = (
            torch.stack((x @ w.T + b).chunk(m.num_heads, -1), 1)
            for x, w, b in zip(tokens, weights, biases, strict=True)
        )
        matrix = F.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1)
        found = torch.cat((matrix @ v).unbind(1), -1) @ m.out_proj.weight.T + m.out_proj.bias
        return (found if m.batch_first else found.transpose(0, 1)), None


def eager_copy(model: nn.Module) -> nn.Module:
    """A copy whose attention is a product, a softmax and a product."""
    model = copy.deepcopy(model)
    if hasattr(model, "set_attn_implementation"):
        model.set_attn_implementation("eager")
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                setattr(module, name, PlainMultihead(child))
    return model


@contextmanager
def constant_inputs(model: nn.Module) -> Iterator[None]:
    """The input of each attention module, poolings included, is a constant."""

    def constant(value: Any) -> Any:
        return value.detach() if isinstance(value, Tensor) else value

    def detach(_: nn.Module, args: Any, kwargs: Any) -> Any:
        return tuple(map(constant, args)), {key: constant(value) for key, value in kwargs.items()}

    handles = [
        module.register_forward_pre_hook(detach, with_kwargs=True)
        for name, module in model.named_modules()
        if name.split(".")[-1] in ATTENTION or "AttentionPool" in type(module).__name__
    ]
    yield
    for handle in handles:
        handle.remove()


def eager_maps(
    model: nn.Module, images: Tensor, read: Callable[[Any], Tensor], classes: int, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Heatmaps (B, classes, h, w) and logits (B, classes): `read` takes the logits from what the model returns.

    All query rows are summed over: those that are not read have no gradient.
    """
    model = eager_copy(model)
    with torch.enable_grad(), constant_inputs(model), Softmaxes() as seen:
        logits = read(model(images))
    maps = []
    for chosen in range(classes):
        gradients = torch.autograd.grad(
            logits[:, chosen].sum(),
            [matrix for _, matrix in seen.kept],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        found = sum(
            (scores.detach().sigmoid() * gradient.relu()).sum((1, 2))[:, -grid[0] * grid[1] :]
            for (scores, _), gradient in zip(seen.kept, gradients, strict=True)
        )
        maps.append(found.reshape(-1, *grid))
    return torch.stack(maps, 1), logits.detach()
