"""Layer-wise relevance propagation through one plain pre-norm block: its linear layers, sums and products of matrices.

The rules are those of Chefer et al. (CVPR 2021, arXiv 2012.09838) with alpha 1; `methods/lrp.py` states them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPSILON = 1e-9


@dataclass(frozen=True)
class BlockParts:
    """The modules of one plain block whose inputs and outputs are needed."""

    block: nn.Module
    attended: nn.Module
    added: nn.Module
    enriched: nn.Module
    qkv: nn.Linear
    proj: nn.Linear
    fc1: nn.Linear
    fc2: nn.Linear

    def modules(self) -> list[nn.Module]:
        """Return all of them."""
        return list(vars(self).values())


class LinearRelevance:
    """One call of a linear layer: its input x (…, in), weight and Σ z⁺ (…, out), the same for every target."""

    def __init__(self, layer: nn.Linear, x: Tensor, y: Tensor) -> None:
        x, y = x.detach(), y.detach()
        self.x = x
        self.weight = layer.weight.detach().to(x.dtype)
        self.y = y if layer.bias is None else y - layer.bias.detach().to(y.dtype)

    # x⁺w⁺ + x⁻w⁻ = (xw + |x||w|) / 2: one product more each way, where the rule as it is written takes two
    @cached_property
    def positive(self) -> Tensor:
        """Compute Σ z⁺ of each output."""
        return (self.y + F.linear(self.x.abs(), self.weight.abs())) / 2

    def down(self, relevance: Tensor) -> Tensor:
        """Hand relevance of the output (B, r, out) down to x (B, r, in), with r the first tokens alone or all."""
        rows = relevance.shape[1]
        share = _divide(relevance, self.positive[:, :rows])
        x = self.x[:, :rows]
        return (x * (share @ self.weight) + x.abs() * (share @ self.weight.abs())) / 2


class BlockRelevance:
    """The operands of one block's sums, products and linear layers."""

    def __init__(
        self,
        parts: BlockParts,
        seen: dict[nn.Module, tuple[Tensor, Tensor]],
        operands: tuple[Tensor, Tensor, Tensor],
        matrix: Tensor,
    ) -> None:
        self.entering, self.attended = seen[parts.block][0].detach(), seen[parts.attended][1].detach()
        self.added, self.enriched = seen[parts.added][0].detach(), seen[parts.enriched][1].detach()
        self.qkv, self.proj, self.fc1, self.fc2 = (
            LinearRelevance(layer, *seen[layer]) for layer in (parts.qkv, parts.proj, parts.fc1, parts.fc2)
        )
        self.query, self.key, self.value = operands
        self.matrix = matrix

    def down(self, relevance: Tensor, further: bool) -> tuple[Tensor, Tensor]:
        """Hand relevance down to A (B, h, r, N) and, if it is to go further, to the block's input (B, N, D).

        `relevance` is that of the output of the first r tokens, (B, r, D): the rest have none.
        """
        rows = relevance.shape[1]
        kept, through = _share_sum(relevance, self.added[:, :rows], self.enriched[:, :rows])
        relevance = kept + self.fc1.down(self.fc2.down(through))
        kept, through = _share_sum(relevance, self.entering[:, :rows], self.attended[:, :rows])
        by_output = _heads(self.proj.down(through), self.query.shape[1])
        matrix = self.matrix.detach()[:, :, :rows]
        share = _divide(by_output, matrix @ self.value)
        by_matrix = matrix * (share @ self.value.mT) / 2
        if not further:
            return by_matrix, relevance
        by_value = self.value * (matrix.mT @ share) / 2
        query = self.query[:, :, :rows]
        share = _divide(by_matrix, query @ self.key.mT)
        by_query, by_key = query * (share @ self.key) / 2, self.key * (share.mT @ query) / 2
        tokens = self.value.shape[2] - rows
        by_qkv = [_tokens(F.pad(by_query, (0, 0, 0, tokens))), _tokens(by_key), _tokens(by_value)]
        return by_matrix, F.pad(kept, (0, 0, 0, tokens)) + self.qkv.down(torch.cat(by_qkv, -1))


def _share_sum(relevance: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Share the relevance of a + b between a and b (B, r, D)."""
    share = _divide(relevance, a + b)
    by_a, by_b = a * share, b * share
    sum_a, sum_b, total = (t.sum((1, 2), keepdim=True) for t in (by_a, by_b, relevance))
    both = sum_a.abs() + sum_b.abs()
    return (
        by_a * _divide(_divide(sum_a.abs(), both) * total, sum_a),
        by_b * _divide(_divide(sum_b.abs(), both) * total, sum_b),
    )


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """Divide, with 0 where b is 0: nothing contributed there."""
    return torch.where(b == 0, 0, a / (b + _EPSILON))


def _heads(tokens: Tensor, heads: int) -> Tensor:
    """Part (B, N, h·d) into heads (B, h, N, d)."""
    return tokens.reshape(*tokens.shape[:2], heads, -1).transpose(1, 2)


def _tokens(heads: Tensor) -> Tensor:
    """Put heads (B, h, N, d) together as (B, N, h·d)."""
    return heads.transpose(1, 2).flatten(2)
