"""What `--trainer.precision` must leave alone, and which precisions cannot train."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import lightning as L
from torch import Tensor, nn

from agcam.data.batch import Batch
from agcam.errors import InputError


def check_installed(precision: Any) -> None:
    """Refuse a precision whose package is missing, before Lightning raises a traceback.

    Raises:
        InputError: naming the package.
    """
    if str(precision).startswith("transformer-engine") and find_spec("transformer_engine") is None:
        raise InputError(
            f"--trainer.precision {precision} needs the package transformer_engine, which is not installed; install "
            "it, or choose bf16-mixed"
        )


def check_trainable(precision: str) -> None:
    """Refuse a precision in which AdamW turns weights into NaN.

    Raises:
        InputError: naming those that train.
    """
    if precision == "16-true":
        raise InputError(
            "--trainer.precision 16-true cannot train: squared gradients below 6e-8, and AdamW's epsilon, are 0 in "
            "float16, and steps are divided by them; choose 16-mixed, bf16-true or bf16-mixed"
        )


def keep_batches(trainer: L.Trainer) -> None:
    """Keep the trainer from converting a `Batch`: bfloat16 would move boxes by pixels and falsify their scores.

    The model converts images as they enter it (`in_precision_of`).
    """
    plugin: Any = trainer.precision_plugin
    if not isinstance(plugin.convert_input, partial):  # a trainer may fit, then test
        plugin.convert_input = partial(_convert_others, plugin.convert_input)


def in_precision_of(module: nn.Module, images: Tensor) -> Tensor:
    """Convert `images` to the floating-point type of the module's weights, which autocast leaves as they are."""
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), images.dtype)
    return images.to(dtype)


def at_least_single(logits: Tensor) -> Tensor:
    """Convert half precision to float32, so that losses and scores are summed with 24 bits, not 8; float64 stays."""
    return logits.float() if logits.element_size() < 4 else logits


def _convert_others(convert: Callable[[Any], Any], data: Any) -> Any:
    return data if isinstance(data, Batch) else convert(data)
