"""Run a whole model with other tokens in its blocks: for ViTs whose own code is run, whatever it does around them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from agcam.explainers.own_thread import after_forward, answered, before_forward
from agcam.explainers.recording import Recording
from agcam.explainers.self_check import mismatch

Switch = Callable[[bool], None]


def run_with_tokens(recording: Recording, tokens: Tensor, switch: Switch) -> Any:
    """Run the whole model on the recorded images; return what it returns.

    Rows that nobody is said to read leave the last block as NaN, which ends up in the output if somebody does. So do
    the tokens that enter an attention pooling: the layers below it are not run.

    Args:
        recording: of the first forward.
        tokens: (B, R, D), or all of them, in place of those that enter the first block.
        switch: called with True when the first block is entered, with False when the last one is left.
    """
    parts, entered = recording.parts, 0

    def enter(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal entered
        entered += 1
        switch(True)
        return (tokens, *args[1:])

    def leave(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        switch(False)
        return _with_tokens(output, _spread(recording, _tokens(output)))

    with ExitStack() as stack:
        for layer in _below(recording):
            stack.enter_context(answered(layer, "forward", _hand_on_nothing))
        stack.callback(before_forward(parts.blocks[0], enter).remove)
        stack.callback(after_forward(parts.blocks[-1], leave).remove)
        returned = recording.model(recording.ordinary_images)
    if entered != 1:
        raise mismatch(recording, f"its ViT ran {entered} times when it was run again, and once before")
    return returned


def run_from_last_block(recording: Recording, rows: Tensor) -> Any:
    """Run the whole model as if its last block had returned `rows` (B, R, D); return what it returns."""
    parts, output = recording.parts, _spread(recording, rows)

    def instead(tokens: Tensor, *_: Any, **__: Any) -> Tensor:
        return output

    with ExitStack() as stack:
        for layer in [*_below(recording), *parts.blocks[:-1]]:
            stack.enter_context(answered(layer, "forward", _hand_on))
        stack.enter_context(answered(parts.blocks[-1], "forward", instead))
        return recording.model(recording.ordinary_images)


def _below(recording: Recording) -> list[nn.Module]:
    blocks = {id(block) for block in recording.parts.blocks}
    return [layer for layer in recording.parts.all_layers if id(layer) not in blocks]


def _hand_on_nothing(tokens: Tensor, *_: Any, **__: Any) -> Tensor:
    return torch.full_like(tokens, torch.nan)


def _hand_on(tokens: Tensor, *_: Any, **__: Any) -> Tensor:
    return tokens


def _tokens(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


def _with_tokens(output: Any, tokens: Tensor) -> Any:
    return (tokens, *output[1:]) if isinstance(output, tuple) else tokens


def _spread(recording: Recording, tokens: Tensor) -> Tensor:
    """Set all rows but those that are read to NaN: (B, N, D), from as many rows or from those alone."""
    rows = recording.parts.rows.stop
    if rows is None:
        return tokens
    (h, w), prefix = recording.grid, recording.parts.num_prefix_tokens
    others = tokens.new_full((len(tokens), prefix + h * w - rows, tokens.shape[-1]), torch.nan)
    return torch.cat([tokens[:, :rows], others], 1)
