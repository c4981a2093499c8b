"""AG-CAM by its definition, for the tests: every attention matrix kept, one autograd pass a class. Slow, plain."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Attention(TorchFunctionMode):
    """Computes attention step by step and keeps what the definition speaks of: S, A."""

    def __init__(self, detach: bool) -> None:
        super().__init__()
        self.detach = detach
        self.scores: list[Tensor] = []
        self.matrices: list[Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return (self.attend if func is F.scaled_dot_product_attention else func)(*args, **(kwargs or {}))

    def attend(self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False):
        assert dropout_p == 0
        assert not is_causal
        if self.detach:
            query, key, value = query.detach(), key.detach(), value.detach()
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        if attn_mask is not None:
            scores = scores + attn_mask.detach()
        matrix = scores.softmax(-1)
        matrix.requires_grad_()
        self.scores.append(scores.detach())
        self.matrices.append(matrix)
        return matrix @ value


def eager_agcam(
    model: nn.Module,
    images: Tensor,
    classes: list[int],
    grid: tuple[int, int],
    *,
    feature_map: str = "sigmoid",
    full_gradient_rows: slice | None = None,
    calls_per_layer: int = 1,
    layers: slice = slice(None),
    head_reduction: str = "sum",
    layer_reduction: str = "sum",
) -> Tensor:
    """Heatmaps (B, len(classes), h, w) of a bare timm model in evaluation mode.

    All query rows are summed over: where attention inputs are constants, rows that the head does not read have no
    gradient. With the full gradient they have one, and `full_gradient_rows` says which to use. Blocks with several
    attention calls side by side have all their heads in one layer.
    """
    detach = full_gradient_rows is None
    hooks = [
        module.register_forward_pre_hook(lambda _, args: tuple(arg.detach() for arg in args))
        for name, module in model.named_modules()
        if detach and name.split(".")[-1] in ("attn", "attn_pool")
    ]
    with torch.enable_grad(), Attention(detach) as attention:
        logits = model(images)
    for hook in hooks:
        hook.remove()

    rows = full_gradient_rows or slice(None)
    reduce = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}
    maps = []
    for chosen in classes:
        gradients = torch.autograd.grad(
            logits[:, chosen].sum(), attention.matrices, retain_graph=True, materialize_grads=True
        )
        of_calls = []
        for scores, matrix, gradient in zip(attention.scores, attention.matrices, gradients, strict=True):
            feature = {"sigmoid": scores.sigmoid(), "softmax": matrix.detach(), "none": torch.ones_like(scores)}
            of_heads = (feature[feature_map] * gradient.relu())[:, :, rows].sum(2)
            of_calls.append(of_heads[:, :, -grid[0] * grid[1] :])
        of_layers = []
        for first in range(0, len(of_calls), calls_per_layer):
            heads = torch.cat(of_calls[first : first + calls_per_layer], dim=1)
            of_layers.append(reduce[head_reduction](heads, dim=1))
        of_image = reduce[layer_reduction](torch.stack(of_layers[layers]), dim=0)
        maps.append(of_image.reshape(-1, *grid))
    return torch.stack(maps, 1)
