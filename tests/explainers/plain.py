"""Plain, slow pieces for the tests of other methods: every attention matrix kept, loops over blocks and classes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch
from eager import Attention
from safetensors import safe_open
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

DATA = Path(__file__).parents[1] / "golden"


def golden_model(name: str, dtype: torch.dtype) -> tuple[nn.Module, dict[str, Tensor]]:
    with safe_open(DATA / f"{name}.safetensors", "pt") as file:
        golden = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # safetensors' own method
        arguments = json.loads(file.metadata()["model"])
    norm = partial(nn.LayerNorm, eps=arguments.pop("norm_eps"))
    model = VisionTransformer(**arguments, norm_layer=norm).eval()
    model.load_state_dict({key.removeprefix("model."): t for key, t in golden.items() if key.startswith("model.")})
    return model.to(dtype), golden


def matrices_and_gradients(model: nn.Module, images: Tensor, chosen: int) -> tuple[list[Tensor], list[Tensor]]:
    """A and ∂y/∂A of each attention call, (B, h, N, N)."""
    with torch.enable_grad(), Attention(detach=False) as attention:
        logits = model(images)
    gradients = torch.autograd.grad(
        logits[:, chosen].sum(), attention.matrices, allow_unused=True, materialize_grads=True
    )
    return [matrix.detach() for matrix in attention.matrices], list(gradients)


def on_grid(columns: Tensor, prefix: int, grid: tuple[int, int]) -> Tensor:
    return columns[:, prefix:].reshape(-1, 1, *grid)
