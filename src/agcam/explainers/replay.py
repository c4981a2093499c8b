"""Run the whole model once more, its ViT's forward answered by a walk of the recorded tokens through its blocks.

In that walk each attention call is answered from the tape. The answers are leaves, and the input of each attention
module is a constant, so differentiating the replayed logits gives the paper's gradient, which reaches attention only
along skip connections and MLPs, at the price of a forward and a backward over the few tokens that the head reads. What
the model does before and after its ViT runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from agcam.explainers.answers import Answers
from agcam.explainers.block_entry import run_from_last_block, run_with_tokens
from agcam.explainers.differentiable import (
    DifferentiableMode,
    differentiable,
    explaining_failures,
    needs_conversion,
    working_dtype,
)
from agcam.explainers.own_thread import answered, before_forward
from agcam.explainers.recording import AttentionCall, Recording
from agcam.explainers.self_check import check_gradient, check_output, mismatch
from agcam.explainers.vit_parts import traceable, without_checkpointing


@dataclass(frozen=True)
class Replay:
    """The replayed graph: `logits` (B, C) as a function of `outputs`, one (B, h, R, d) leaf an attention call."""

    logits: Tensor
    outputs: list[Tensor]


@contextmanager
def replay(recording: Recording) -> Iterator[Replay]:
    """Replay a recording in float32 (float64 for a float64 model) and check that it reproduces the model's output.

    Works inside `torch.no_grad` and `torch.inference_mode`; parameters and their `.grad` are not touched.

    Raises:
        ModelError: if the replayed output differs from the recorded one. A map would be wrong, so none is made.
    """
    with replayed(recording) as (read, found):
        check_output(recording, read, found.logits)
        yield found


@contextmanager
def replayed(recording: Recording) -> Iterator[tuple[list[Tensor], Replay]]:
    """Replay without the check; yield what is read of the output, and the graph."""
    parts = recording.parts
    dtype = working_dtype(recording.tokens)
    with ExitStack() as stack:
        stack.enter_context(differentiable(recording))
        stack.enter_context(traceable(parts))
        stack.enter_context(without_checkpointing(recording.model))
        for module in parts.attentions:
            # a block that does its own attention has an MLP that the input reaches, too
            if all(module is not block for block in parts.blocks):
                constant = _hide_input if recording.has_graph else _detach_input
                stack.callback(before_forward(module, constant).remove)
        # the clones leave inference mode, whose tensors cannot enter autograd, and, in a recording with a graph, part
        # the replay from the forward: a call's clone depends on the calls before, on their clones it does not
        outputs = [call.output.clone().to(dtype).requires_grad_() for call in recording.calls]
        tokens = recording.tokens.clone().to(dtype)
        answer = Answers([_answer(call, output) for call, output in zip(recording.calls, outputs, strict=True)], parts)

        def walk() -> Tensor:
            if recording.random_state is not None:
                recording.random_state.set()
            with answer:
                return parts.walk(tokens)

        if recording.random_state is not None:
            stack.enter_context(recording.random_state.leaving_generators())
        with DifferentiableMode(needs_conversion(recording)), explaining_failures(recording):
            if parts.runs_itself:
                answer.switch(False)
                with answer:
                    returned = run_with_tokens(recording, tokens, answer.switch)
            else:
                returned = run_answered(recording, walk)
        read, logits = recording.interpret(returned)
        if recording.has_classes:
            check_gradient(recording, logits)
        yield read, Replay(logits, outputs)


def run_answered(recording: Recording, answer: Callable[[], Tensor]) -> Any:
    """Run the whole model on the recorded images with `answer` in place of its ViT; return what the model returns."""
    answers = 0

    def instead(*_: Any, **__: Any) -> Tensor:
        nonlocal answers
        answers += 1
        # the model may switch autograd off around its ViT
        with torch.inference_mode(False), torch.enable_grad():
            return answer()

    with answered(recording.parts.backbone, recording.entrance, instead):
        returned = recording.model(recording.ordinary_images)
    if answers != 1:
        raise mismatch(recording, f"its ViT ran {answers} times when it was run again, and once before")
    return returned


def logits_of_rows(recording: Recording, rows: Tensor) -> Tensor:
    """Make the logits (B, C) that the model would have if its last block had returned `rows` (B, R, D)."""
    head = recording.parts.head
    if head is None:
        returned = run_from_last_block(_of_class_token(recording), rows)
    else:
        returned = run_answered(recording, lambda: head(rows))
    return recording.reader.read(returned, recording.parts, len(recording.images))[1]


def _of_class_token(recording: Recording) -> Recording:
    return replace(recording, parts=replace(recording.parts, rows=slice(0, 1)))


def _answer(call: AttentionCall, output: Tensor) -> Tensor:
    """Return the answer of an attention call, for all rows where the model's code needs them."""
    return output if call.others is None else torch.cat([output, call.others.clone().to(output.dtype)], 2)


def _detach_input(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    # what is given as query, key and value stays one tensor, which is projected once
    detached = {id(arg): arg.detach() for arg in args if isinstance(arg, Tensor)}
    return tuple(detached.get(id(arg), arg) for arg in args)


def _hide_input(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Hand NaN to an attention module whose calls are answered.

    A constant would be wrong for the derivative of the gradient where the module reads its input beside them, as a gate
    does. NaN shows that in the logits, and the check of the replay refuses the model.
    """
    hidden = {
        id(arg): torch.full_like(arg, torch.nan) for arg in args if isinstance(arg, Tensor) and arg.is_floating_point()
    }
    return tuple(hidden.get(id(arg), arg) for arg in args)
