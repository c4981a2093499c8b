"""One graph of a model's logits and its AG-CAM heatmaps, for runtimes that know neither agcam nor autograd.

The forward, the replay and the replay's gradient are run once on tensors without numbers, and every operation is
noted: the gradient is in the graph as the products that it is made of. What depends on numbers (the check of the
replay, NaN in place of rows that nobody reads) is left out, so that whoever writes the graph compares what it computes
with `explain`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.fx.passes.dialect.common.cse_pass import CSEPass
from torch.overrides import TorchFunctionMode

from agcam.errors import AgcamError, ModelError, brief
from agcam.evaluating import evaluating
from agcam.explainers.eager_attention import attention_matrix
from agcam.explainers.find_vit import inspect_vit
from agcam.explainers.last_block import can_skip, rows_skipped
from agcam.explainers.patch_grid import patch_columns
from agcam.explainers.recorder import Tape
from agcam.explainers.recording import Recording
from agcam.explainers.replay import replayed
from agcam.explainers.vit_parts import ViTParts, unwrap

Products = dict[Tensor, list[Tensor]]
"""What each linear layer gave, call by call, by its weight."""


def trace_heatmaps(
    model: nn.Module, images: Tensor, top: int | None = None, prepare: Callable[[Tensor], Tensor] | None = None
) -> ExportedProgram:
    """Make one graph from images to logits and AG-CAM heatmaps, for any number of images of one size.

    It gives (logits (B, C), targets (B, T) int64, heatmaps (B, T, h, w)) for the `top` most probable classes, or
    (logits, heatmaps) for images and targets (B, T) int64, where T may be any number, too.

    Args:
        model: a ViT of timm, or a module around one, in float32 on the CPU.
        images: what it will be called with: an example of type and size; its numbers do not matter.
        top: how many classes are explained; None takes the classes as second input.
        prepare: makes of that the normalized images (B, 3, H, W), as part of the graph; None leaves it as it is.

    Raises:
        ModelError: if the model cannot be traced, with the reason.
    """
    bare = unwrap(model)
    parts = inspect_vit(bare)
    if parts.runs_itself:
        raise ModelError(f"{parts.name} cannot be exported as a graph: it is no ViT of timm")

    def explained(images: Tensor, targets: Tensor | None = None) -> tuple[Tensor, ...]:
        recording, products = _record(bare, parts, images if prepare is None else prepare(images))
        if targets is None:
            targets = recording.logits.topk(top or 1).indices
            return recording.logits, targets, _heatmaps(recording, targets, products)
        return recording.logits, _heatmaps(recording, targets, products)

    batch, count = Dim("batch"), Dim("classes")
    example: tuple[Tensor, ...] = (images[:1].expand(2, *images.shape[1:]).contiguous(),)
    dynamic: tuple[dict[int, Any], ...] = ({0: batch},)
    if top is None:
        example, dynamic = (*example, torch.zeros(2, 3, dtype=torch.int64)), (*dynamic, {0: batch, 1: count})
    try:
        with evaluating(bare):
            graph = _trace(explained if top is None else lambda images: explained(images), example, dynamic)
        return torch.export.export(graph, example, dynamic_shapes=dynamic)
    except AgcamError:
        raise
    except Exception as error:  # a model's code can do anything, and so can its operations
        raise ModelError(
            f"{parts.name} cannot be exported as a graph: tracing it failed ({type(error).__name__}: {brief(error)})"
        ) from error


def _trace(
    function: Callable[..., Any], example: tuple[Tensor, ...], dynamic: tuple[dict[int, Any], ...]
) -> torch.fx.GraphModule:
    """Note every operation of a function of tensors, of which the dimensions in `dynamic` may vary."""
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    shapes: list[Any] = [
        StatelessSymbolicContext([DimDynamic.DYNAMIC if d in varying else DimDynamic.STATIC for d in range(t.dim())])
        for t, varying in zip(example, dynamic, strict=True)
    ]
    inputs = [mode.from_tensor(t, symbolic_context=shape) for t, shape in zip(example, shapes, strict=True)]
    with mode:
        graph = make_fx(function, decomposition_table=_of_backward_passes(), _allow_non_fake_inputs=True)(*inputs)
    _name_sizes_once(graph.graph)
    graph.graph.eliminate_dead_code()
    found: torch.fx.GraphModule = CSEPass()(graph).graph_module  # type: ignore[union-attr]  # a pass returns a result
    return found


def _name_sizes_once(graph: torch.fx.Graph) -> None:
    """Let equal sizes be one node, without which equal operations on them are not seen to be equal."""
    first: dict[Any, torch.fx.Node] = {}
    for node in graph.nodes:
        if isinstance(size := node.meta.get("val"), torch.SymInt):
            node.replace_all_uses_with(first.setdefault(size.node.expr, node))


def _of_backward_passes() -> dict[Any, Any]:
    """Return how to take apart the operations of backward passes, of which other runtimes have none."""
    known: Any = core_aten_decompositions()
    return {op: how for op, how in known.items() if "backward" in str(op) or str(op).startswith("aten.rsub")}


def _record(model: nn.Module, parts: ViTParts, images: Tensor) -> tuple[Recording, Products]:
    skips = can_skip(model, parts)  # before the tape listens, too
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        noted = stack.enter_context(_PlainForward())
        tape = stack.enter_context(Tape(model, parts=parts, graph=True))  # which copies nothing
        if skips:
            stack.enter_context(rows_skipped(parts, guarded=False))
        model(images)
    return replace(tape.recording, random_state=None), noted.products


def _heatmaps(recording: Recording, targets: Tensor, products: Products) -> Tensor:
    """Make the heatmaps (B, T, h, w) of the method "agcam" without options.

    Each image is replayed as T images, each of which has one class: one backward pass for all.
    """
    batch, count = targets.shape
    classes = torch.arange(recording.logits.shape[1], device=targets.device)
    with _KnownProducts(products, recording, count), replayed(_repeated(recording, count)) as (_, found):
        seeds = (targets.reshape(-1, 1) == classes).to(found.logits.dtype)
        gradients = torch.autograd.grad(found.logits, found.outputs, seeds)
    layers = []
    for call, gradient in zip(recording.calls, gradients, strict=True):
        _, heads, rows, width = gradient.shape
        by_image = gradient.reshape(batch, count, heads, rows, width).transpose(1, 2)
        # of all tokens, in the order of the product in the forward: the same copy serves both
        alpha = call.value @ by_image.reshape(batch, heads, count * rows, width).transpose(-2, -1)
        alpha = patch_columns(recording, alpha.transpose(-2, -1))
        features = patch_columns(recording, call.scores()).sigmoid()
        by_row = alpha.reshape(batch, heads, count, rows, -1).relu() * features.unsqueeze(2)
        layers.append(by_row.sum((1, 3)))
    return sum(layers[1:], layers[0]).reshape(batch, count, *recording.grid)


def _repeated(recording: Recording, count: int) -> Recording:
    """Return what would have been recorded if each image had come `count` times, as far as the replay needs it."""

    def repeat(tensor: Tensor) -> Tensor:
        return tensor.repeat_interleave(count, 0)

    return replace(
        recording,
        images=repeat(recording.images),
        tokens=repeat(recording.tokens),
        calls=[replace(call, output=repeat(call.output)) for call in recording.calls],
    )


class _PlainForward(TorchFunctionMode):
    """Computes attention by products and a softmax, which every runtime has, and notes what linear layers give."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Products = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`."""
        kwargs = kwargs or {}
        if func is F.linear:
            found: Tensor = func(*args, **kwargs)
            _, weight = _operands(args, kwargs)
            self.products.setdefault(weight, []).append(found)
            return found
        return (_attend if func is F.scaled_dot_product_attention else func)(*args, **kwargs)


class _KnownProducts(TorchFunctionMode):
    """Lets linear layers of the replay give what they gave in the forward, for its rows and as often as it has them.

    The gradient of a linear layer needs its weight alone, and weights are most of what a replay of few rows reads.
    Layers that ran more than once, or for other rows, are computed again.
    """

    def __init__(self, products: Products, recording: Recording, count: int) -> None:
        super().__init__()
        self.products = {layer: found[0] for layer, found in products.items() if len(found) == 1}
        self.batch, self.rows, self.count = recording.images.shape[0], recording.parts.rows, count

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, or take what is known."""
        kwargs = kwargs or {}
        if func is not F.linear:
            return func(*args, **kwargs)
        entering, weight = _operands(args, kwargs)
        if (known := self.products.pop(weight, None)) is not None:
            if known.dim() == 3 and known.shape[1] != entering.shape[1]:
                known = known[:, self.rows]
            # else image and token lie in one dimension, or it is another number of tokens
            if known.shape[0] == self.batch and known.shape[1:-1] == entering.shape[1:-1]:
                known = known.repeat_interleave(self.count, 0)
                return _Known.apply(entering, weight, known)
        return func(*args, **kwargs)


def _operands(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Return what enters a linear layer, and its weight, however they are given."""
    named = dict(zip(("input", "weight"), args, strict=False)) | kwargs
    return named["input"], named["weight"]


class _Known(torch.autograd.Function):
    """A linear layer whose output is known."""

    @staticmethod
    def forward(ctx: Any, entering: Tensor, weight: Tensor, known: Tensor) -> Tensor:
        """Return the output."""
        ctx.weight = weight
        return known.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient with respect to what enters."""
        return gradients[0] @ ctx.weight, None, None


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if dropout_p > 0 or is_causal:
        raise ModelError("a graph needs attention without dropout and without a causal mask")
    _, _, value, matrix = attention_matrix(query, key, value, attn_mask, scale, enable_gqa)
    return matrix @ value
