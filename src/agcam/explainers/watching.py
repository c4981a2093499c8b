"""Watches where a forward of a whole model enters its ViT, leaves it, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from torch import Tensor, nn

from agcam.errors import ModelError
from agcam.explainers.families.timm import parts_of_features
from agcam.explainers.own_thread import after_forward, before_forward
from agcam.explainers.vit_parts import ViTParts, check_fit

Entrance = Literal["forward", "forward_features"]


@dataclass
class Run:
    """One forward of a whole model, as far as it has come.

    Attributes:
        args: what the model was called with.
        parts: of the ViT, as it was entered; None before.
        entrance: the method of the ViT that the model called.
        grid: (h, w), the patch grid.
        entries: how often the ViT was entered.
        vit_input: what its patch embedding was given.
        vit_output: what its forward returned; None where the model called `forward_features`.
        inside: whether the ViT's own forward is running.
    """

    args: tuple[Any, ...]
    parts: ViTParts | None = None
    entrance: Entrance = "forward"
    grid: tuple[int, int] = (0, 0)
    entries: int = 0
    vit_input: Tensor | None = None
    vit_output: Any = None
    inside: bool = False

    @property
    def images(self) -> Tensor:
        """The images (B, 3, H, W) that the model was called with first; labels may follow them.

        The model is run again with the images alone. Whether that is the same is what its output tells.

        Raises:
            ModelError: if it was something else.
        """
        images = self.args[0] if self.args else None
        if isinstance(images, Tensor) and images.dim() == 4:
            return images
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        assert self.parts is not None
        raise ModelError(
            f"{self.parts.name}: recording needs images (B, 3, H, W), found {found if self.args else 'none'}; call the "
            "model with the images as its first argument, not by name"
        )


class Watch:
    """Follows the forwards of `model` in this thread, and reports.

    Args:
        model: the whole model, not wrapped.
        parts: of the ViT inside.
        entered: called with the run and the arguments of the first block.
        left: called when the last block is left.
        finished: called with the run and what the model returned, once for each forward that has entered the ViT.
        converting: whether images of another precision than the model's are converted on the way.
    """

    def __init__(
        self,
        model: nn.Module,
        parts: ViTParts,
        entered: Callable[[Run, tuple[Any, ...]], None],
        left: Callable[[], None],
        finished: Callable[[Run, Any], None],
        converting: bool = False,
    ) -> None:
        self.model = model
        self.parts = parts
        self.entered = entered
        self.left = left
        self.finished = finished
        self.converting = converting
        self._runs: list[Run] = []  # a module that calls itself, as Lightning's do under DDP, has several

    @cached_property
    def _of_features(self) -> ViTParts:
        return self.parts if self.parts.runs_itself else parts_of_features(self.parts)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch inside the block."""
        backbone, each = self.parts.backbone, (self.parts.blocks, self.parts.all_layers)
        entries = {id(blocks[0]): blocks[0] for blocks in each}
        exits = {id(blocks[-1]): blocks[-1] for blocks in each}
        with ExitStack() as stack:
            handles = [
                before_forward(self.model, self._begin, keywords=True),
                before_forward(backbone, self._enter_vit),
                before_forward(self.parts.embedding.module, self._embed),
                *(before_forward(block, self._enter_block) for block in entries.values()),
                *(after_forward(block, self._leave_block) for block in exits.values()),
                after_forward(backbone, self._leave_vit, always=True),
                after_forward(self.model, self._finish, always=True),
            ]
            for handle in handles:
                stack.callback(handle.remove)
            yield

    @property
    def _run(self) -> Run | None:
        return self._runs[-1] if self._runs else None

    def _begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._runs.append(Run((*args, *kwargs.values())))

    def _enter_vit(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        if self._run is not None:
            self._run.parts, self._run.inside = self.parts, True
            if self.model is self.parts.backbone:
                images = self._run.images  # before the model's own code fails on what are none
                check_fit(self.parts, images, not self.converting)
            elif self.parts.runs_itself:
                self._embed(self.parts.embedding.module, args)

    def _embed(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        if self._run is not None and args and isinstance(args[0], Tensor) and args[0].dim() == 4:
            check_fit(self.parts, args[0], not self.converting)
            self._run.vit_input, self._run.grid = args[0], self.parts.grid(args[0])

    def _enter_block(self, block: nn.Module, args: tuple[Any, ...]) -> None:
        # gradient checkpointing runs the blocks once more in backward, when no forward is running
        run = self._run
        if run is None:
            return
        parts = self.parts if run.inside else self._of_features
        if block is parts.blocks[0]:
            run.parts, run.entrance = parts, "forward" if run.inside else "forward_features"
            run.entries += 1
            if run.entries > 1:
                raise ModelError(
                    f"{parts.name} ran twice in one forward of the model; explain a model that runs it once"
                )
            self.entered(run, args)

    def _leave_block(self, block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._run is not None and self._run.parts is not None and block is self._run.parts.blocks[-1]:
            self.left()

    def _leave_vit(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._run is not None:
            self._run.inside, self._run.vit_output = False, output

    def _finish(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        run = self._runs.pop()
        self.left()
        if run.parts is not None and output is not None:
            self.finished(run, output)
