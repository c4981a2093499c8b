"""What of a model's output is explained: logits, one of several outputs, or a score of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from agcam.errors import InputError, ModelError
from agcam.explainers.vit_parts import ViTParts

Score = Callable[[Any], Tensor]


@dataclass(frozen=True)
class OutputReader:
    """Reads what a model returned.

    Attributes:
        output: the key or number of the one that is explained, where a model returns several.
        score: from the output to what is explained, (B,) or (B, T); None for the output itself.
    """

    output: str | int | None = None
    score: Score | None = None

    def read(self, returned: Any, parts: ViTParts, batch: int) -> tuple[list[Tensor], Tensor]:
        """Return the tensors of what is read, by which two forwards are compared, and the logits or scores (B, C).

        Raises:
            InputError: if there is no such output, or `score` returns no scores.
            ModelError: if there are several outputs and none is chosen, or it holds no logits.
        """
        name = parts.name
        chosen = self._choose(returned, parts)
        read = [leaf for leaf in tree_leaves(chosen) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
        if self.score is not None:
            return read, _checked_score(self.score(chosen), batch)
        if not isinstance(chosen, Tensor) or not chosen.is_floating_point() or chosen.shape[:1] != (batch,):
            raise ModelError(f"{name} returned {_describe(chosen)}, not logits ({batch}, C)")
        if chosen.dim() > 2:
            raise ModelError(
                f"{name} returned {_describe(chosen)}, not logits ({batch}, C); say what to explain by a score, such "
                "as score=lambda output: output.flatten(1)"
            )
        return read, chosen if chosen.dim() == 2 else chosen.unsqueeze(1)

    def _choose(self, returned: Any, parts: ViTParts) -> Any:
        entries, name = _entries(returned), parts.name
        if self.output is not None:
            if self.output not in entries:
                raise InputError(f"{name} has no output {self.output!r}; it returned {_describe(returned)}")
            return entries[self.output]
        if self.score is not None or isinstance(returned, Tensor):
            return returned
        if _is_model_output(returned) and isinstance(entries.get("logits"), Tensor):
            return entries["logits"]
        # a single number, such as the loss, is of no image
        tensors = [value for value in entries.values() if isinstance(value, Tensor) and value.dim() > 0]
        if len(tensors) == 1:
            return tensors[0]
        training = "; it is in training mode, call model.eval() first" if parts.backbone.training else ""
        example = f", such as output={next(iter(entries))!r}" if entries else ""
        raise ModelError(f"{name} returned {_describe(returned)}, not logits; choose one by output{example}{training}")


def has_no_logits(returned: Any, model: nn.Module) -> bool:
    """Return whether a `ModelOutput` of transformers holds features alone, of which none is a class."""
    if not _is_model_output(returned):
        return False
    return returned.get("logits") is None or getattr(getattr(model, "config", None), "num_labels", 1) == 0


def features_of(returned: Any) -> list[Tensor]:
    """Return the tensors that a ViT without classifier returned; of a `ModelOutput` the most condensed ones."""
    if _is_model_output(returned):
        known = ("logits", "image_embeds", "pooler_output", "last_hidden_state")
        returned = next((returned[key] for key in known if isinstance(returned.get(key), Tensor)), returned)
    return [leaf for leaf in tree_leaves(returned) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _is_model_output(returned: Any) -> bool:
    """Return whether it is what models of transformers return; the library need not be there."""
    kinds = type(returned).__mro__
    return any(kind.__name__ == "ModelOutput" and kind.__module__.startswith("transformers.") for kind in kinds)


def similarity(embeddings: Tensor) -> Score:
    """Make a score: the cosine similarity of what a model returns to each of T embeddings, of texts for example.

    Examples:
        >>> tower = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()  # CLIP's, say
        >>> text_features = torch.rand(2, tower.num_features)  # of two texts, by the tower for texts
        >>> agcam.explain(tower, images, score=agcam.similarity(text_features)).heatmaps.shape
        torch.Size([4, 2, 14, 14])

    Args:
        embeddings: (T, D) or (D,), of any length; they are scaled to 1.

    Returns:
        A score for `explain`, from embeddings (B, D) of images to (B, T) in [-1, 1].

    Raises:
        InputError: if the embeddings, or those of the images, are none.
    """
    if not isinstance(embeddings, Tensor) or embeddings.dim() not in (1, 2) or not embeddings.is_floating_point():
        raise InputError(f"similarity needs embeddings (T, D), found {_describe(embeddings)}")
    directions = F.normalize(embeddings.detach().clone().reshape(-1, embeddings.shape[-1]), dim=-1)

    def score(output: Any) -> Tensor:
        if _is_model_output(output):
            output = features_of(output)[0]
        if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[1] != directions.shape[1]:
            raise InputError(
                f"similarity to embeddings of width {directions.shape[1]} needs an output (B, {directions.shape[1]}), "
                f"found {_describe(output)}"
            )
        return F.normalize(output, dim=-1) @ directions.to(output).T

    return score


def _checked_score(score: Any, batch: int) -> Tensor:
    if not isinstance(score, Tensor) or not score.is_floating_point() or score.dim() not in (1, 2):
        raise InputError(f"score must return a float tensor ({batch},) or ({batch}, T), found {_describe(score)}")
    if len(score) != batch or not score.numel():
        raise InputError(f"score must return one row an image, ({batch},) or ({batch}, T), found {tuple(score.shape)}")
    return score if score.dim() == 2 else score.unsqueeze(1)


def _entries(returned: Any) -> dict[Any, Any]:
    """Return the parts of an output by key or number."""
    if isinstance(returned, Tensor):
        return {}
    if isinstance(returned, Mapping):
        return dict(returned)
    if isinstance(returned, Sequence) and not isinstance(returned, str):
        names = getattr(returned, "_fields", ())
        return dict(enumerate(returned)) | dict(zip(names, returned, strict=False))
    return dict(vars(returned)) if hasattr(returned, "__dict__") else {}


def _describe(returned: Any) -> str:
    kind = type(returned).__name__
    if isinstance(returned, Tensor):
        return f"a tensor {tuple(returned.shape)}"
    parts = _entries(returned)
    if not parts:
        return kind
    return f"{kind} of " + ", ".join(
        f"{key!r} {tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}"
        for key, value in parts.items()
    )
