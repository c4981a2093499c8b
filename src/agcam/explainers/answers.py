"""Answers in place of attention calls, and none for the projections whose results nobody reads then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from agcam.explainers.vit_parts import ViTParts


class Answers(TorchFunctionMode):
    """Give prepared answers to attention calls; skip projections to query, key and value.

    Args:
        answers: (B, h, R, d) each, in the order of the calls.
        parts: of the ViT that is run.
    """

    def __init__(self, answers: Iterable[Tensor], parts: ViTParts) -> None:
        super().__init__()
        self.answers = iter(answers)
        self.listening = True
        # the weights are kept beside their ids, which could otherwise be given to another tensor
        self.unread = {id(weight): weight for weight in parts.unread_weights()}

    def switch(self, listening: bool) -> None:
        """Answer from now on, or no more."""
        self.listening = listening

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, or answer in its place."""
        kwargs = kwargs or {}
        if not self.listening:
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return next(self.answers)
        if func is F.linear:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            if id(weight) in self.unread:
                x = args[0] if args else kwargs["input"]
                return x.new_zeros(*x.shape[:-1], weight.shape[0])
        return func(*args, **kwargs)
