"""The recording: what one forward of a model leaves for its explanation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from agcam.explainers.outputs import OutputReader, features_of, has_no_logits
from agcam.explainers.random_state import RandomState
from agcam.explainers.vit_parts import ViTParts
from agcam.explainers.watching import Entrance, Run


@dataclass(frozen=True)
class AttentionCall:
    """One recorded attention call; R query rows that the head reads, N tokens, h heads of width d.

    Attributes:
        value: (B, h, N, d).
        output: (B, h, R, d), the attention's answer for the rows.
        row_scores: (B, h, R, N) scores before softmax, where they are smaller than what they are made of; else None
            and they are made when asked for, from the next three.
        query: (B, h, R, d), already multiplied by the softmax scale, or None.
        key: (B, h, N, d), or None.
        bias: additive score bias broadcastable to (B, h, R, N), or None.
        others: (B, h, N - R, d), the answer for the other rows, where the model's code needs them to run; else None.
    """

    value: Tensor
    output: Tensor
    row_scores: Tensor | None
    query: Tensor | None
    key: Tensor | None
    bias: Tensor | None
    others: Tensor | None = None

    def scores(self) -> Tensor:
        """Return the scores before softmax of the recorded rows, (B, h, R, N)."""
        if self.row_scores is not None:
            return self.row_scores
        assert self.query is not None
        assert self.key is not None
        scores = self.query @ self.key.transpose(-2, -1)
        return scores if self.bias is None else scores + self.bias


@dataclass
class Recording:
    """One forward of a model, as far as explanations need it.

    Attributes:
        model: the whole model that was called.
        parts: where the ViT inside it keeps its blocks, norm and head.
        images: (B, 3, H, W), as they entered the model.
        tokens: (B, R, D), the tokens that the head reads, as they entered the first block (or the pooling).
        calls: the attention calls from there on, in order.
        logits: (B, C), or the scores that are explained in their place. (B, 0) for a model without classifier.
        grid: (h, w), the patch grid.
        reader: what of the model's output is explained.
        read: the tensors of the output that `reader` reads, by which a second forward is compared with this one.
        vit: the name of the ViT among the model's modules, where it was given.
        entrance: the method of the ViT that the model called.
        own_head: whether the model returned something else than its ViT's own output.
        direct_images: whether the ViT's input was `images` itself.
        input_size: (H, W) of the ViT's input, which the model may have resized; None where it is not known.
        random_state: of the generators as the first block was entered, in a recording that keeps its autograd graph:
            what the blocks drop at random is drawn alike when they are run again. None in any other recording.
    """

    model: nn.Module
    parts: ViTParts
    images: Tensor
    tokens: Tensor = field(default_factory=lambda: torch.empty(0))
    calls: list[AttentionCall] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    grid: tuple[int, int] = (0, 0)
    reader: OutputReader = field(default_factory=OutputReader)
    read: list[Tensor] = field(default_factory=list)
    vit: str | None = None
    entrance: Entrance = "forward"
    own_head: bool = False
    direct_images: bool = True
    input_size: tuple[int, int] | None = None
    random_state: RandomState | None = None

    @property
    def ordinary_images(self) -> Tensor:
        """The images as a tensor that autograd takes: one of inference mode is copied."""
        return self.images.clone() if self.images.is_inference() else self.images

    @property
    def has_forward(self) -> bool:
        """Whether a forward was recorded, or the recording is still empty."""
        return bool(self.read)

    @property
    def has_graph(self) -> bool:
        """Whether tokens and attention calls are part of the forward's autograd graph."""
        return self.random_state is not None

    @property
    def has_classes(self) -> bool:
        """Whether what is explained are classes or scores, not the features of a ViT without classifier."""
        return self.logits.dim() == 2 and self.logits.shape[1] > 0

    def finish(self, run: Run, returned: Any) -> tuple[list[Tensor], Tensor]:
        """Note what a forward returned, if none was before; return what is read of it and the logits or scores."""
        assert run.parts is not None
        images, score = run.images, self.reader.score
        batch = images.shape[0]  # which `len` would turn into a number where a graph of any batch size is traced
        self.grid, self.entrance, self.own_head = run.grid, run.entrance, returned is not run.vit_output
        self.direct_images = run.vit_input is images
        if run.vit_input is not None:
            self.input_size = (int(run.vit_input.shape[-2]), int(run.vit_input.shape[-1]))
        features = not self.own_head and (not run.parts.has_classifier or run.parts.pools_nothing)
        if score is None and (features or has_no_logits(returned, self.model)):
            read, logits = features_of(returned), images.new_empty(batch, 0)
        else:
            read, logits = self.reader.read(returned, run.parts, batch)
        if not self.has_forward:
            self.parts = run.parts
            self.read, self.logits = [tensor.detach() for tensor in read], logits.detach()
        return read, logits

    def interpret(self, returned: Any) -> tuple[list[Tensor], Tensor]:
        """Return what is read of a further forward's output, as was done with the first, and the logits or scores."""
        if not self.has_classes:
            return features_of(returned), self.images.new_empty(self.images.shape[0], 0)
        return self.reader.read(returned, self.parts, self.images.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes that the recording keeps alive, logits and images left out."""
        kept = [self.tokens]
        for call in self.calls:
            kept += [t for t in vars(call).values() if t is not None]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
        return sum(storages.values())
